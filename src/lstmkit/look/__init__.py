"""Seeing what a model did: inside its recurrent layers (any module's, any job's), its training, its forecasts.

``sections`` and ``write_page`` show everything on one page; ``look_inside``, ``effects``, ``cell_step`` and
``gradient_flow`` give the numbers, and the modules here a picture of each.
"""

from __future__ import annotations

from lstmkit.look.attribution import Effect, effects
from lstmkit.look.cell_step import CellStep, cell_step
from lstmkit.look.gradient_flow import gradient_flow
from lstmkit.look.page import View, sections, write_page
from lstmkit.look.traces import Place, Seen, Specimen, look_inside

__all__ = [
    "CellStep",
    "Effect",
    "Place",
    "Seen",
    "Specimen",
    "View",
    "cell_step",
    "effects",
    "gradient_flow",
    "look_inside",
    "sections",
    "write_page",
]
