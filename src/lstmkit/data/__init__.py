"""Readers, prepare steps and batches: from a file to the tensors a model takes."""
