"""MIDI files and piano rolls."""
