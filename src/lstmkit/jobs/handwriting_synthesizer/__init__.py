"""Handwriting synthesis: pen strokes, with or without a text."""
