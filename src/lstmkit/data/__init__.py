"""Data: readers, preprocessing fitted on the training split, datasets and mini-batches."""
