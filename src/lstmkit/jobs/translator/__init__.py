"""Machine translation with attention."""
