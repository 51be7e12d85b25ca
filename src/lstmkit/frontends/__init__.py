"""Front ends: convert text, numbers, audio, ink or video to the input of recurrent layers. One file per type."""
