"""Regression: one or several numbers for a sequence, or for each of its steps."""
