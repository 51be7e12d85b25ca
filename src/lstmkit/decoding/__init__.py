"""Decoding: greedy search, beam search, sampling, CTC. Each takes a step function, never a job."""
