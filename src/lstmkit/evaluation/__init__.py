"""Calibration, and the metrics that several jobs share."""
