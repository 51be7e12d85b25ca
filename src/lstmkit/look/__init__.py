"""Inspection of recurrent layers in any module: gates, memory, saturation, unit activations, input attribution.

``sections`` and ``write_inspection_page`` show everything on one page. ``trace_layers``, ``input_attributions``,
``cell_step`` and ``gradient_flow`` return the numbers; the modules of this package draw them. ``units_on`` and
``matching_ranges`` test a hypothesis about units.
"""

from __future__ import annotations

from lstmkit.look.attribution import InputAttribution, input_attributions
from lstmkit.look.cell_step import CellStep, cell_step
from lstmkit.look.gradient_flow import gradient_flow
from lstmkit.look.inspection_page import InspectionOptions, sections, write_inspection_page
from lstmkit.look.state_matches import StateMatch, matching_ranges, units_on
from lstmkit.look.traces import ExampleSequence, LayerKey, LayerTrace, trace_layers

__all__ = [
    "CellStep",
    "ExampleSequence",
    "InputAttribution",
    "InspectionOptions",
    "LayerKey",
    "LayerTrace",
    "StateMatch",
    "cell_step",
    "gradient_flow",
    "input_attributions",
    "matching_ranges",
    "sections",
    "trace_layers",
    "units_on",
    "write_inspection_page",
]
