"""Forecasting of time series, with prediction intervals."""
