"""Images and video: reading files, resizing, frames, datasets."""
