"""Pen strokes: reading files and SVG, resampling, lines drawn with a vector font."""
