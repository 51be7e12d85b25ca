"""Seeing what a model did: inside its recurrent layers (any module's, any job's), its training, its forecasts.

``sections`` and ``write_inspection_page`` show everything on one page; ``trace_layers``, ``effects``, ``cell_step`` and
``gradient_flow`` give the numbers, and the modules here a picture of each.
"""

from __future__ import annotations

from lstmkit.look.attribution import InputAttribution, effects
from lstmkit.look.cell_step import CellStep, cell_step
from lstmkit.look.gradient_flow import gradient_flow
from lstmkit.look.inspection_page import InspectionOptions, sections, write_inspection_page
from lstmkit.look.traces import ExampleSequence, LayerKey, LayerTrace, trace_layers

__all__ = [
    "CellStep",
    "ExampleSequence",
    "InputAttribution",
    "InspectionOptions",
    "LayerKey",
    "LayerTrace",
    "cell_step",
    "effects",
    "gradient_flow",
    "sections",
    "trace_layers",
    "write_inspection_page",
]
