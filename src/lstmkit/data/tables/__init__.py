"""Tables of every format: reading, columns by name, zip archives."""
