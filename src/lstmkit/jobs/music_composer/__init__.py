"""Continuation and harmonization of music."""
