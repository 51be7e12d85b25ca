"""Decoding: greedy search, beam search, sampling and CTC. Each takes a step function, never a job."""
