"""Digital ink: reading strokes and SVG files, resampling, text lines rendered with Hershey fonts."""
