"""How the field splits and scores its texts for language models: the whole test text, the state carried."""

from __future__ import annotations

from lstmkit.recipes._protocols import given_parts, held_out

PROTOCOLS = {"given_parts": given_parts, "held_out": held_out}
