"""Protocols of language modeling: the whole test text is scored, and the state is carried through it."""

from __future__ import annotations

from lstmkit.recipes._protocols import given_parts, held_out

PROTOCOLS = {"given_parts": given_parts, "held_out": held_out}
