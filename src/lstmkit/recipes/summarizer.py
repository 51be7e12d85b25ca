"""Protocols of summarization: the parts of the data set; the test part is summarized once."""

from __future__ import annotations

from lstmkit.recipes._protocols import given_parts

PROTOCOLS = {"given_parts": given_parts}
