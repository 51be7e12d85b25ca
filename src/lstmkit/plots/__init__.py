"""Figures shared by several jobs: style, text, classification, training curves, video."""
