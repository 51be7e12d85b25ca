"""Text: lines, tokenizers, token streams, text pairs, question answering, tagged sentences (CoNLL)."""
