"""How a predictor of secondary structure is served."""

from __future__ import annotations

from lstmkit.jobs.secondary_structure_predictor.predictor import StructurePredictor
from lstmkit.jobs.serving import Row, Serving, rows_form, texts_form


def serving(predictor: StructurePredictor) -> Serving:
    """Amino-acid sequences; a row per residue if the model reads profiles."""
    settings = predictor.settings
    if not settings.profile_cols:
        return Serving(texts_form("MKVLAAGIVG"))
    row: Row = {settings.id_col: "1", settings.residue_col: "M", **dict.fromkeys(settings.profile_cols, 0.0)}
    return Serving(rows_form([row]))
