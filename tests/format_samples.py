"""A small valid file of every format that a job declares."""

from __future__ import annotations

import gzip
import json
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lstmkit.data.formats import DataFormat
from lstmkit.jobs import job_class, job_names

FORMATS = [(job, each) for job in job_names() for each in job_class(job).data_formats]
ENDINGS = [
    (job, each, ending)
    for job, each in FORMATS
    for ending in each.endings or ((".any", ".any.gz") if each.gzip else ("",))  # a folder has no ending
]
TIMES = [str(day.date()) for day in pd.date_range("2024-01-01", periods=8)]

#: Columns of a small table for each job; a path names a file that :func:`add_media` writes.
COLUMNS: dict[str, dict[str, list[Any]]] = {
    "anomaly_detector": {"a": [0.5, 1.5, 2.0, 3.0] * 2, "b": [1.5, 2.5, 1.0, 0.5] * 2},
    "event_classifier": {"id": ["a"] * 8, "amount": [0.5, 1.5, 2.0, 3.0] * 2, "label": ["ok", "fraud"] * 4},
    "forecaster": {"unique_id": ["a"] * 8, "ds": TIMES, "y": [float(k) for k in range(8)]},
    "recommender": {"session_id": ["s", "s", "t", "t"], "item_id": ["a", "b", "a", "c"], "timestamp": [1, 2, 3, 4]},
    "captioner": {"image": ["one.png", "two.png"], "caption": ["a square", "a line"]},
    "classifier": {"text": ["good day", "bad day"], "label": ["up", "down"]},
    "object_detector": {
        "clip": ["one.mp4"] * 2,
        "frame": [0, 1],
        "class": ["dot"] * 2,
        "x": [2, 3],
        "y": [4, 4],
        "w": [8, 8],
        "h": [8, 8],
    },
    "handwriting_synthesizer": {"id": ["a"] * 3, "x": [0, 1, 2], "y": [0, 1, 0], "pen": [0, 0, 1]},
    "question_answerer": {"story": ["Mary moved."], "question": ["Who moved?"], "answer": ["Mary"]},
    "secondary_structure_predictor": {"id": ["c"], "sequence": ["MKVAY"], "ss3": ["CHHHC"]},
    "regressor": {"x": [0.5, 1.5, 2.0, 3.0], "target": [1.0, 2.0, 2.5, 3.5]},
    "summarizer": {"text": ["a long text"], "summary": ["a text"]},
    "transcriber": {"file": ["one.wav", "one.wav"], "text": ["a", "b"]},
    "translator": {"source": ["a dog"], "target": ["ein Hund"]},
    "speech_synthesizer": {"path": ["one.wav"], "text": ["a"]},
}


def add_media(folder: Path) -> None:
    """Images, and an audio clip with its transcript."""
    for name in ("one.png", "two.png"):
        Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(folder / name)
    with wave.open(str(folder / "one.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((8000 * np.sin(np.arange(4000))).astype("<i2").tobytes())
    (folder / "one.txt").write_text("a\n", encoding="utf-8")


def sample(job: str, data_format: DataFormat, ending: str, folder: Path) -> str:
    """Write a small valid file with an ending, and return what names it on the command line."""
    add_media(folder)
    path = folder / f"sample{ending}"
    if data_format.folder or ending == ".zip":
        return str(folder_of(job, folder) if data_format.folder else zip_of(job, folder, path))
    plain = ending.removesuffix(".gz")
    content = content_of(job, data_format, plain, folder)
    path.write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    if data_format.name == "two text files":
        return f"{path},{path}"
    return str(path)


def folder_of(job: str, folder: Path) -> Path:
    """The folder with the files that a job reads, one folder deeper."""
    inside = folder / "files" / "label"
    inside.mkdir(parents=True)
    if job == "music_composer":
        (inside / "piece.mid").write_bytes(midi(folder))
    elif job == "handwriting_synthesizer":
        (inside / "line.svg").write_text(SVG, encoding="utf-8")
    else:
        pictures = {"captioner": ["one.png"], "image_generator": ["one.png"], "object_detector": ["one.png", "two.png"]}
        names = pictures.get(job, ["one.wav", "one.txt"])
        for name in names:
            (inside / name).write_bytes((folder / name).read_bytes())
    return folder / "files"


def zip_of(job: str, folder: Path, path: Path) -> Path:
    """A zip archive of :func:`folder_of`."""
    source = folder_of(job, folder)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(source.rglob("*.*")):
            archive.write(file, file.relative_to(source).as_posix())
    return path


SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
    '<path d="M1 1 L5 5 L8 2" stroke="black" fill="none"/></svg>'
)
BABI = "1 Mary moved to the hall.\n2 Where is Mary?\thall\t1\n"
ANSWER = {"id": "1", "question": "Where is Mary?", "answers": [{"text": "the hall", "answer_start": 11}]}
COCO = {
    "images": [{"id": 1, "file_name": "one.mp4", "frame_id": 0, "height": 32, "width": 32}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 4, 8, 8]}],
    "categories": [{"id": 1, "name": "dot"}],
}
SQUAD = {
    "version": "1.1",
    "data": [{"title": "t", "paragraphs": [{"context": "Mary is in the hall.", "qas": [ANSWER]}]}],
}


def content_of(job: str, data_format: DataFormat, ending: str, folder: Path) -> bytes:
    """Content of a small valid file, not compressed."""
    texts = {
        "text file": "the cat sat\non the mat\n",
        "two text files": "a dog\na cat\n",
        "CoNLL columns or CoNLL-U": "the\tD\ncat\tN\n\n",
        "bAbI": BABI,
        "SQuAD": json.dumps(SQUAD),
        "FASTA": ">c first\nMKVAY\n",
        "SVG": SVG,
        "COCO JSON": json.dumps(COCO),
        "JSON": json.dumps({"train": [[[60, 64], [62]]], "valid": [[[60]]], "test": [[[60]]]}),
    }
    if job == "object_detector" and data_format.name != "video":
        (folder / "one.mp4").write_bytes(video(folder / "one.mp4"))  # that tables and COCO files name
    if data_format.name in texts:
        return texts[data_format.name].encode()
    path = folder / f"content{ending}"
    writers = {
        "MIDI": lambda: midi(folder),
        "audio": lambda: audio(path),
        "image": lambda: image(path),
        "video": lambda: video(path),
        "animated image": lambda: video(path),
        "IDX": lambda: b"\0\0\x08\x03" + np.array([2, 4, 4], ">i4").tobytes() + bytes(range(32)),
        "NumPy archive": lambda: npz(job, path),
    }
    if data_format.name in writers:
        return writers[data_format.name]()
    return table(pd.DataFrame(COLUMNS[job]), ending, path)


def table(frame: pd.DataFrame, ending: str, path: Path) -> bytes:
    if ending == ".parquet":
        frame.to_parquet(path)
        return path.read_bytes()
    if ending == ".jsonl":
        return frame.to_json(orient="records", lines=True).encode()
    return frame.to_csv(sep={".csv": ",", ".txt": ";"}.get(ending, "\t"), index=False).encode()


def midi(folder: Path) -> bytes:
    from lstmkit.data.music.midi import roll_to_midi

    roll = np.zeros((4, 88), dtype=np.uint8)
    roll[:, 40] = 1
    roll_to_midi(roll, 0.5, 120.0).write(str(folder / "written.mid"))
    return (folder / "written.mid").read_bytes()


def audio(path: Path) -> bytes:
    import soundfile

    kinds = {".aif": "AIFF", ".aifc": "AIFF", ".oga": "OGG", ".opus": "OGG"}
    kind = kinds.get(path.suffix, path.suffix[1:].upper())
    samples = 0.3 * np.sin(np.arange(8000, dtype=np.float32) / 5)
    soundfile.write(path, samples, 48_000, format=kind, subtype="OPUS" if path.suffix == ".opus" else None)
    return path.read_bytes()


def image(path: Path) -> bytes:
    picture = Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20))
    (picture.convert("1") if path.suffix == ".pbm" else picture).save(path)
    return path.read_bytes()


def video(path: Path) -> bytes:
    frames = [np.full((32, 32, 3), 40 * k, dtype=np.uint8) for k in range(5)]
    if path.suffix in (".gif", ".apng", ".png", ".webp"):
        first, *others = [Image.fromarray(frame) for frame in frames]
        kind = {".apng": "PNG"}.get(path.suffix, path.suffix[1:].upper())
        first.save(path, format=kind, save_all=True, append_images=others, duration=100)
        return path.read_bytes()
    import av

    codecs = {".webm": "libvpx", ".mpg": "mpeg1video", ".mpeg": "mpeg1video", ".ogv": "libvpx", ".wmv": "wmv2"}
    codecs[".flv"] = "flv"
    containers = {".m4v": "mp4", ".mkv": "matroska", ".wmv": "asf", ".mpg": "mpeg", ".ogv": "matroska"}
    with av.open(str(path), "w", format=containers.get(path.suffix)) as container:
        stream: Any = container.add_stream(codecs.get(path.suffix, "mpeg4"), rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def npz(job: str, path: Path) -> bytes:
    arrays: dict[str, Any] = {
        "music_composer": {"train_rolls": np.full((3, 11), 1, dtype=np.uint8), "train_offsets": np.array([0, 3])},
        "handwriting_synthesizer": {
            "strokes": np.array([[0, 0, 0], [1, 1, 0], [2, 0, 1]]),
            "offsets": np.array([0, 3]),
        },
        "transcriber": {"feats": np.ones((6, 3), dtype=np.float32), "offsets": np.array([0, 3, 6])},
    }[job]
    np.savez(path, **arrays)
    if job == "transcriber":
        path.with_name("sample.tsv").write_text("1\ta\n2\tb\n", encoding="utf-8")
    return path.read_bytes()
