"""Write the tables of docs/data-formats.md from the formats that the jobs declare. With --check, only compare them."""

from __future__ import annotations

from pathlib import Path

from marked import fill

from lstmkit.data.formats import DataFormat
from lstmkit.jobs import job_class, job_names

ROOT = Path(__file__).parent.parent

#: The page of each job.
PAGES = {
    "anomaly_detector": "anomalies",
    "captioner": "captions",
    "classifier": "classification",
    "event_classifier": "events",
    "forecaster": "forecasting",
    "handwriting_synthesizer": "handwriting-synthesis",
    "image_generator": "painting",
    "language_model": "language-models",
    "music_composer": "music",
    "object_detector": "object-detection",
    "question_answerer": "answers",
    "recommender": "recommendation",
    "regressor": "regression",
    "secondary_structure_predictor": "protein-structure",
    "speech_synthesizer": "speech-synthesis",
    "summarizer": "summaries",
    "tagger": "tagging",
    "transcriber": "transcription",
    "translator": "translation",
}


def endings(data_format: DataFormat) -> str:
    """Endings of a format, as a cell."""
    if data_format.folder:
        return "a folder"
    listed = ", ".join(f"`{suffix}`" for suffix in data_format.suffixes) or "any"
    return (
        f"{listed}; also gzipped, as `{data_format.suffixes[0]}.gz`"
        if data_format.gzip and data_format.suffixes
        else listed
    )


def jobs_table() -> str:
    """One row per format of a job."""
    lines = ["| job | format | endings |", "|---|---|---|"]
    for job in job_names():
        name = f"[{job}]({PAGES[job]}.md)"
        for data_format in job_class(job).data_formats:
            lines.append(f"| {name} | {data_format.name} | {endings(data_format)} |")
            name = ""
    return "\n".join(lines)


def formats_table() -> str:
    """One row per format, with its encoding and notes."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for job in job_names():
        for each in job_class(job).data_formats:
            rows.setdefault((each.name, each.encoding, each.notes.replace("|", "\\|")), []).append(job)
    repeated = {name for name, _, _ in rows if sum(other == name for other, _, _ in rows) > 1}
    lines = ["| format | text encoding | notes |", "|---|---|---|"]
    for (name, encoding, notes), jobs in sorted(rows.items()):
        of_jobs = f" ({', '.join(jobs)})" if name in repeated else ""
        lines.append(f"| {name}{of_jobs} | {encoding or '–'} | {notes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    page = ROOT / "docs/data-formats.md"
    fill(page, "jobs", jobs_table(), "src/lstmkit/data/")
    fill(page, "formats", formats_table(), "src/lstmkit/data/")
