"""Language models of words, characters or subword units."""
