"""Session-based recommendation: the next item in a session."""
