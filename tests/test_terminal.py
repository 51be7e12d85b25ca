"""What is printed cannot control the terminal, whatever the data, file names and labels hold."""

import json
import logging
import sys
from pathlib import Path

import pytest

import lstmkit
import lstmkit.cli
from lstmkit.progress import TerminalProgress, printable

ESCAPE = "\x1b[31mRED\x1b[0m\x1b]0;title\x07\x9b2J\x7f"
SHOWN = r"\u001b[31mRED\u001b[0m\u001b]0;title\u0007\u009b2J\u007f"


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["lstmkit", *args])
    with pytest.raises(SystemExit) as stop:
        lstmkit.cli.main()
    return stop.value.code


def test_control_characters_are_shown():
    assert printable(ESCAPE) == SHOWN
    assert printable("a\tb\nc é 語 \u200f") == "a\tb\nc é 語 \u200f"


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sentences = [(["the", ESCAPE], ["D", ESCAPE])] * 12
    folder = tmp_path_factory.mktemp("terminal") / "run"
    lstmkit.Tagger(epochs=1, hidden_size=4, embedding_size=4).fit(sentences).save(folder)
    return folder


def test_errors_answers_and_json(
    tagger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Files that are written hold the text as it is."""
    text = tmp_path / "a.conll"
    text.write_text(f"the D\n{ESCAPE.replace(' ', '')} {ESCAPE}\n", encoding="utf-8")
    assert run(monkeypatch, "predict", str(tagger), str(text)) == 0
    printed = capsys.readouterr().out
    assert SHOWN in printed
    assert run(monkeypatch, "evaluate", str(tagger), str(text), "--json") == 0
    evaluated = capsys.readouterr().out
    json.loads(evaluated)
    assert run(monkeypatch, "predict", str(tagger), str(text), "-o", str(tmp_path / "out.conll")) == 0
    assert ESCAPE in (tmp_path / "out.conll").read_text(encoding="utf-8")
    assert run(monkeypatch, "-v", "predict", str(tagger), str(tmp_path / f"{ESCAPE}.conll")) == 2
    failed = capsys.readouterr().err
    assert SHOWN in failed
    for output in (printed, evaluated, failed):
        assert not {*output} & {"\x1b", "\x07", "\x9b", "\x7f"}


def test_progress_and_log(capsys: pytest.CaptureFixture[str]):
    progress = TerminalProgress()
    progress.say(f"read {ESCAPE} [red]")
    with progress.task(f"reading {ESCAPE} [red]", 2) as task:
        task.update(1, ESCAPE)
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "[red]" in err
    record = logging.LogRecord("lstmkit", logging.WARNING, "", 0, "%s", (ESCAPE,), None)
    assert lstmkit.cli._LogFormatter("%(message)s").format(record) == SHOWN
