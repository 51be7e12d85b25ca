"""Serve fitted runs over HTTP and WebSocket: ``lstmkit serve RUN``."""
