"""Calibration, and metrics that several jobs share."""
