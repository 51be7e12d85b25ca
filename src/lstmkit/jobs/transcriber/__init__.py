"""Transcription of audio, images of text lines and pen strokes with CTC."""
