"""Protocols of transcription: strings of digits, features, books and pages of text lines, numbers."""

from __future__ import annotations

import csv
import gzip
import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstmkit import settings
from lstmkit.data import catalog
from lstmkit.data.audio.audio_io import AudioClip, read_audio
from lstmkit.data.files import load_npz
from lstmkit.data.ink.resampling import POINT_SPACING, resample_ink, validate_strokes
from lstmkit.data.transcripts import Transcripts, normalize_text
from lstmkit.data.vision.idx import read_idx
from lstmkit.data.vision.image_io import read_grayscale_image
from lstmkit.jobs.language_model.job import LanguageModel
from lstmkit.jobs.transcriber.job import Transcriber
from lstmkit.jobs.transcriber.metrics import scores
from lstmkit.progress import Progress
from lstmkit.recipes import Fit

_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")


def digit_strings(
    job: Transcriber, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress
) -> pd.DataFrame:
    """Recordings of single digits joined to strings of one speaker, with short silences between.

    Takes 0 to 4 are the test. Takes from ``train_takes`` on are for training, those between for validation.
    """
    takes = _takes(catalog.locate(folder.name, options["file"]), options["rate"])
    first, train = options["test_takes"], options["train_takes"]
    cuts = {"train": range(train, 50), "valid": range(first, train), "test": range(first)}
    parts = {
        part: _joined(takes, of, options[f"{part}_strings"], options, options["seed"] + i)
        for i, (part, of) in enumerate(cuts.items())
    }
    fit(parts["train"], parts["valid"])
    return job.evaluate(parts["test"], progress=progress).table


def _takes(path: Path, rate: int) -> dict[tuple[str, int, int], np.ndarray]:
    """Samples by speaker, digit and take."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            digit, speaker, take = Path(name).stem.split("_")
            found[speaker, int(digit), int(take)] = read_audio(archive.read(name), rate, name).samples
    return found


def _joined(
    takes: dict[tuple[str, int, int], np.ndarray], of: Sequence[int], count: int, options: dict[str, Any], seed: int
) -> Transcripts:
    """Random strings of ``shortest`` to ``longest`` digits, by the seed."""
    rng, rate = np.random.default_rng(seed), options["rate"]
    sounds, texts = [], []
    for i in range(count):
        speaker = _SPEAKERS[int(rng.integers(len(_SPEAKERS)))]
        digits = rng.integers(10, size=int(rng.integers(options["shortest"], options["longest"] + 1))).tolist()
        spoken = [takes[speaker, digit, int(rng.choice(of))] for digit in digits]
        gaps = [np.zeros(int(rate * rng.uniform(0.02, 0.2)), dtype=np.float32) for _ in range(len(digits) + 1)]
        samples = [gaps[0]]
        for one, gap in zip(spoken, gaps[1:], strict=True):
            samples += [one, gap]
        sounds.append(AudioClip(f"string {i + 1}", np.concatenate(samples), rate))
        texts.append("".join(map(str, digits)))
    return Transcripts(sounds, texts, [one.name for one in sounds], "audio", "the strings of digits")


def features(job: Transcriber, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Features and texts in two parts; every ``valid``-th speaker of the first part is for validation.

    A regular expression finds the speaker in an example's name. A character language model is fitted to the training
    texts; the first row of the table is beam search with it.
    """
    train, test = (job.read(catalog.locate(folder.name, options[part])) for part in ("train", "test"))
    parts = _speakers_apart(train, **options["speakers"])
    fit(*parts)
    table = job.evaluate(test, progress=progress).table
    language = LanguageModel(**options["language"]).fit(
        parts[0].require_texts(), validation=parts[1].require_texts(), progress=progress
    )
    job.predictor.settings.insertion_bonus = options["lm_bonus"]
    transcriptions = job.predict(test, beam_size=options["beam"], lm=language, lm_weight=options["lm_weight"])
    name = f"{table['model'][0]}, beam {options['beam']}, language model"
    first = {"model": name, **scores([one.text for one in transcriptions], test.require_texts())}
    return pd.concat([pd.DataFrame([first]), table], ignore_index=True)


def _speakers_apart(examples: Transcripts, pattern: str, valid: int) -> tuple[Transcripts, Transcripts]:
    """Examples without every ``valid``-th speaker in order of their names, and those of these speakers."""
    found = [re.search(pattern, name) for name in examples.ids]
    speakers = [match[1] if match else "" for match in found]
    held_out = sorted({*speakers})[::valid]
    apart = np.array([speaker in held_out for speaker in speakers])
    return examples.subset(np.flatnonzero(~apart)), examples.subset(np.flatnonzero(apart))


def books(job: Transcriber, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Images of lines, one ``.zip`` per book, one model for all books; every fifth line by name is the test.

    Every ``valid``-th of the other lines is for validation. The table has scores of all lines and of each book.
    """
    train, valid, test = [], [], []
    for name in options["books"]:
        book = job.read(catalog.locate(folder.name, name + options["ending"]))
        rest, held_out = _every(book, 5)
        test.append(held_out)
        for part, some in zip((train, valid), _every(rest, options["valid"]), strict=True):
            part.append(some)
    fit(_together(train), _together(valid))
    found = job.evaluate(_together(test), progress=progress)
    table, ends = found.table, np.cumsum([0, *map(len, test)])
    for name, a, b in zip(options["books"], ends[:-1], ends[1:], strict=True):
        of_book = found.details[a:b]
        table[f"CER {name}"] = [scores(list(of_book[m]), list(of_book["text"]))["CER"] for m in table["model"]]
    return table


def given_lines(job: Transcriber, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Images of lines in two parts; every ``valid``-th of the first part is for validation."""
    train, test = (job.read(catalog.locate(folder.name, options[part])) for part in ("train", "test"))
    fit(*_every(train, options["valid"]))
    return job.evaluate(test, progress=progress).table


def numbers(job: Transcriber, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """MNIST digits joined to numbers at random distances; the test part has official test digits only.

    The last ``valid_digits`` of the training digits are for validation.
    """
    digits = {part: _digits(folder, options, part) for part in ("train", "test")}
    pixels, labels = digits["train"]
    cut = len(labels) - options["valid_digits"]
    sets = {"train": (pixels[:cut], labels[:cut]), "valid": (pixels[cut:], labels[cut:]), "test": digits["test"]}
    parts = {
        part: _numbers(pixels, labels, options[f"{part}_numbers"], options, options["seed"] + i)
        for i, (part, (pixels, labels)) in enumerate(sets.items())
    }
    fit(parts["train"], parts["valid"])
    return job.evaluate(parts["test"], progress=progress).table


def _digits(folder: Path, options: dict[str, Any], part: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = (
        _unpacked(catalog.locate(folder.name, options[f"{part}_{what}"])) for what in ("images", "labels")
    )
    return read_idx(images), read_idx(labels)


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def _numbers(pixels: np.ndarray, labels: np.ndarray, count: int, options: dict[str, Any], seed: int) -> Transcripts:
    """Numbers of ``shortest`` to ``longest`` digits; digits may touch and are shifted a little vertically."""
    rng = np.random.default_rng(seed)
    inputs, texts = [], []
    for _ in range(count):
        chosen = rng.integers(len(labels), size=int(rng.integers(options["shortest"], options["longest"] + 1)))
        line = np.zeros((32, 28 * len(chosen) + 8 * (len(chosen) + 1)), dtype=np.uint8)
        at = int(rng.integers(0, 8))
        for one in chosen:
            down = int(rng.integers(0, 5))
            place = line[down : down + 28, at : at + 28]
            np.maximum(place, pixels[one], out=place)
            at += 28 + int(rng.integers(-8, 9))
        inputs.append(line[:, : at + int(rng.integers(0, 8))])
        texts.append("".join(str(label) for label in labels[chosen]))
    return Transcripts(inputs, texts, [f"number {i}" for i in range(1, count + 1)], "images", "the numbers")


def pen_strokes(job: Transcriber, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """Pen strokes in one array, with a table of texts and parts: train, valid and test as it says.

    ``upward`` says whether y grows upwards. The last row is the text of the training ink most alike, see
    :func:`_nearest_texts`.
    """
    ink = load_npz(catalog.locate(folder.name, options["strokes"]), "pen strokes")
    direction = np.array([1, -1 if options["upward"] else 1, 1])
    drawings = np.split(ink["points"] * direction, ink["offsets"][1:-1])
    table = pd.read_csv(catalog.locate(folder.name, options["table"]), keep_default_na=False)
    parts = {}
    for part in ("train", "valid", "test"):
        rows = np.flatnonzero(table["split"] == part)
        inputs = [validate_strokes(drawings[row], f"drawing {row}") for row in rows]
        texts = [normalize_text(text) for text in table["text"].iloc[rows]]
        parts[part] = Transcripts(inputs, texts, [f"drawing {row}" for row in rows], "strokes", f"the {part} part")
    fit(parts["train"], parts["valid"])
    table = job.evaluate(parts["test"], progress=progress).table
    nearest = scores(_nearest_texts(parts["train"], parts["test"]), parts["test"].require_texts())
    return pd.concat([table, pd.DataFrame([{"model": "nearest training ink", **nearest}])], ignore_index=True)


def _nearest_texts(train: Transcripts, test: Transcripts) -> list[str]:
    """The text of the nearest training ink, by squared distance of 200 points evenly spaced over each drawing."""
    known, asked = (
        np.stack([_outline(ink, 200) for ink in part.inputs]).reshape(len(part), -1) for part in (train, test)
    )
    distance = (known**2).sum(1) - 2 * asked @ known.T
    texts = train.require_texts()
    return [texts[row] for row in distance.argmin(axis=1)]


def _outline(ink: np.ndarray, count: int) -> np.ndarray:
    """``(count, 2)`` points from the first to the last, in units of the height of the ink."""
    steps = resample_ink(ink).steps
    path = np.column_stack([np.cumsum(steps[:, 0]) * POINT_SPACING, steps[:, 2]])
    at = np.linspace(0, len(path) - 1, count)
    return np.column_stack([np.interp(at, np.arange(len(path)), column) for column in path.T])


def one_page(job: Transcriber, fit: Fit, folder: Path, options: dict[str, Any], progress: Progress) -> pd.DataFrame:
    """The lines of one page: every ``test``-th is held out, every ``valid``-th of the others is for validation.

    Training starts from the weights of a model of printed lines, ``first``, and is compared with training from scratch.
    The first model is not kept in a run, so the protocol cannot be resumed.
    """
    rest, test = _every(_page(folder, options), options["test"])
    train, valid = _every(rest, options["valid"])
    first, own = options["first"], settings.values(job)
    printed = _together([job.read(catalog.locate(first["data"], name, download=True)) for name in first["files"]])
    with tempfile.TemporaryDirectory() as kept:
        printed_train, printed_valid = _every(printed, options["valid"])
        before = Transcriber(**{**own, "epochs": first["epochs"]})
        before.fit(printed_train, validation=printed_valid, progress=progress).save(kept)
        job.init_from = kept
        fit(train, valid)
    table = job.evaluate(test, progress=progress).table
    table.loc[0, "model"] = f"{table['model'][0]}, pretrained on prints"
    alone_job = Transcriber(**own).fit(train, validation=valid, progress=progress)
    alone = alone_job.evaluate(test, progress=progress).table
    alone.loc[0, "model"] = f"{alone['model'][0]}, trained from scratch"
    return pd.concat([table.head(1), alone], ignore_index=True)


def _page(folder: Path, options: dict[str, Any]) -> Transcripts:
    text = catalog.locate(folder.name, options["texts"]).read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    with zipfile.ZipFile(catalog.locate(folder.name, options["images"])) as archive:
        inputs = [read_grayscale_image(archive.read(name), name) for name, _ in rows]
    return Transcripts(
        inputs, [normalize_text(text) for _, text in rows], [name for name, _ in rows], "images", "the page"
    )


def _every(examples: Transcripts, nth: int) -> tuple[Transcripts, Transcripts]:
    """The other examples, and every ``nth`` from the first on."""
    rows = np.arange(len(examples))
    return examples.subset(rows[rows % nth > 0]), examples.subset(rows[rows % nth == 0])


def _together(parts: Sequence[Transcripts]) -> Transcripts:
    inputs, texts, ids = (
        [one for part in parts for one in of(part)] for of in (lambda p: p.inputs, lambda p: p.texts, lambda p: p.ids)
    )
    return Transcripts(inputs, texts, ids, parts[0].kind, "the books")


PROTOCOLS: dict[str, Callable[..., pd.DataFrame]] = {
    "digit_strings": digit_strings,
    "features": features,
    "books": books,
    "given_lines": given_lines,
    "numbers": numbers,
    "one_page": one_page,
    "pen_strokes": pen_strokes,
}
