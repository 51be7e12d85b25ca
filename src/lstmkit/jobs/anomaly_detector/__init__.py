"""Anomaly detection in sensor series."""
