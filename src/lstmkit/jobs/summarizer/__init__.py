"""Abstractive summarization with a pointer-generator."""
