"""Objects in video: boxes with class, score and identity in each frame."""
