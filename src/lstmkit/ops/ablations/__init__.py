"""Recurrences that are slower on purpose: gates held open, and the full-gate LSTM of the search for the best cell."""
