"""Captions of images and video clips."""
