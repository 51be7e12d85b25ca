"""Question answering over stories and passages."""
