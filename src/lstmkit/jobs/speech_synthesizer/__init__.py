"""Speech synthesis with a Tacotron."""
