"""Image generation with DRAW."""
