"""How the field splits and scores texts and their summaries: the parts as given, the test summarised once."""

from __future__ import annotations

from lstmkit.recipes._protocols import given_parts

PROTOCOLS = {"given_parts": given_parts}
