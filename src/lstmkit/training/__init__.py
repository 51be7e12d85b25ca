"""The training loop, the prediction loop, checkpoints, the run folder and provenance of results."""
