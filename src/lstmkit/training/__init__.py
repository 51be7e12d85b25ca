"""Training loop, prediction loop, checkpoints, run folder, and provenance of results."""
