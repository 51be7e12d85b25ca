"""Answers to questions about a passage or a story."""
