"""Abstractive summaries of texts."""
