"""Secondary structure of proteins."""
