"""Text: lines, tokenizers, token streams, parallel corpora, questions, tagged sentences."""
