"""The verbs ``lstmkit push`` and ``lstmkit pull``. The libraries are imported when a verb runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstmkit.progress import printable


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run folder that 'fit' wrote")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="repository on the hub: USER/NAME")],
    private: Annotated[bool, typer.Option("--private", help="make a repository that only you can see")] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="leave out report.html, which may show examples from your data")
    ] = False,
) -> None:
    """Upload a model to the Hugging Face hub: model, model card, scores, history, report."""
    from lstmkit.hub import transfer

    print(printable(transfer.push(run, repo, private=private, report=not no_report)))


def pull(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="repository on the hub: USER/NAME")],
    run: Annotated[Path, typer.Option("-o", "--run", help="new folder for the model")],
    revision: Annotated[str | None, typer.Option(help="branch, tag or commit (default: the newest)")] = None,
) -> None:
    """Download a model from the Hugging Face hub and check that it loads."""
    from lstmkit.hub import transfer

    print(printable(f"model   {transfer.pull(repo, run, revision=revision)}"))
