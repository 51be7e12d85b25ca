"""Figures that several jobs share."""
