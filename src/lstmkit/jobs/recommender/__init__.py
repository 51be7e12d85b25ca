"""The next item in a session."""
