"""The command line: the job is a noun, the verbs serve all jobs. Results on stdout, progress on stderr."""

from __future__ import annotations

import inspect
import io
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lstmkit import settings
from lstmkit.errors import SettingError, UserError
from lstmkit.jobs import job_class, job_names, load
from lstmkit.jobs.base import Job
from lstmkit.progress import TerminalProgress
from lstmkit.report import format_table
from lstmkit.training.run_folder import RunFolder

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Long short-term memory networks, from raw file to answer.",
)
_USAGE_ERROR: Any = typer.BadParameter.__base__  # click's complaint about a command line, which typer does not export
_YES_NO = ("true", "false", "yes", "no", "1", "0")
_PICTURES = ("png", "svg", "pdf", "jpg")
_EXTRA_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True}

_SHORT = 40  # rows of a table that is printed; longer ones are on the page alone

RunArg = Annotated[Path, typer.Argument(help="folder that 'fit' made")]
DataArg = Annotated[str, typer.Argument(help="file with the data")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]


@app.command()
def jobs(
    job: Annotated[str | None, typer.Argument(help="a job, to list its settings")] = None, as_json: Json = False
) -> None:
    """List the jobs, or the settings of one."""
    if job is None:
        rows = [{"job": name, "what": job_class(name).summary} for name in job_names()]
    else:
        declared = settings.declared(job_class(job))
        rows = [
            {"setting": f"--{name.replace('_', '-')}", "default": _shown(f.default), "what": _meaning(f.metadata)}
            for name, f in declared.items()
        ]
    _print_rows(rows, as_json)


@app.command(context_settings=_EXTRA_OPTIONS)
def fit(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="what to do; see 'lstmkit jobs'")],
    data: DataArg,
    run: Annotated[Path, typer.Option("-o", "--run", help="folder for model, report and checkpoints")],
    validation: Annotated[str | None, typer.Option(help="file to validate on, instead of a part of the data")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in that folder")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="delete the run in that folder first")] = False,
    as_json: Json = False,
) -> None:
    """Train on DATA, with an honest test beside plain baselines. Settings: --name value, see 'lstmkit jobs JOB'."""
    _check_exclusive(resume, overwrite)
    if job.startswith("-"):
        raise SettingError("give the job and the data first: lstmkit fit JOB DATA -o RUN --name value")
    cls = job_class(job)
    (data,), given = _settings(cls, context, [data])
    if resume:
        given = {**RunFolder.read_run_metadata(run)["settings"], **given}
    fitted = cls(**given)
    fitted.fit(data, validation=validation, run=run, resume=resume, overwrite=overwrite, progress=TerminalProgress())
    metrics = json.loads((run / "metrics.json").read_text())
    if as_json:
        _print_json({"run": str(run), **metrics})
        return
    if fitted.evaluation is not None:
        print(fitted.evaluation)
    print(f"model   {run}\nreport  {run / 'report.html'}")
    if "interrupted" in metrics["training"]:
        words = ["lstmkit", "fit", job, data, "-o", str(run), "--resume"]
        words += ["--validation", validation] if validation is not None else []
        print(f"Training was interrupted; the model is usable. Go on with: {shlex.join(words)}")


@app.command(context_settings=_EXTRA_OPTIONS)
def predict(
    context: typer.Context,
    run: RunArg,
    data: DataArg,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="file for the answer [default: stdout]")] = None,
    picture: Annotated[Path | None, typer.Option(help="file for a picture of it (png, svg, pdf)")] = None,
    as_json: Json = False,
) -> None:
    """Answers for DATA from the model in RUN."""
    run, data, options = _options(context, run, data)
    if picture is not None:
        _check_picture(picture)
    for path in (output, picture):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}")
    job = load(run)
    answer = job.predict(data, **_known(job.predict, options))
    if picture is not None:
        from lstmkit.report import save_figure

        save_figure(job.plot(data, answer), picture, dpi=150)
    if output is not None and not as_json:
        job.write(answer, output)
        return
    text = json.dumps(job.to_records(answer), indent=2, default=str) if as_json else job.to_text(answer)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


@app.command()
def evaluate(run: RunArg, data: DataArg, as_json: Json = False) -> None:
    """The model in RUN beside plain baselines, on DATA it was not fitted to."""
    evaluation = load(run).evaluate(data)
    _print_json(evaluation.to_json()) if as_json else print(evaluation)


@app.command(context_settings=_EXTRA_OPTIONS)
def look(
    context: typer.Context,
    run: RunArg,
    data: DataArg,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="page [default: RUN/look.html]")] = None,
    units: Annotated[
        str | None, typer.Option(help="units to look at, from 0: 3,17 [default: all, and the busiest]")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="layer to look at, from 1 [default: all]")] = None,
    sort_by: Annotated[str, typer.Option(help="gate or state that the units are sorted by")] = "forget",
    unroll: Annotated[bool, typer.Option("--unroll", help="only draw the cell, with the numbers of one step")] = False,
    step: Annotated[int | None, typer.Option(help="that step, from 0 [default: the last]")] = None,
) -> None:
    """Look inside: gates, memory, what units fire on, what inputs did, the cell in numbers, over an example of DATA."""
    from lstmkit import look as looking

    run, data, options = _options(context, run, data)
    view = looking.InspectionOptions(_whole_numbers("--units", units), layer, sort_by, step, unroll)
    job = load(run)
    example_sequences = job.example_sequences(data, **_known(job.example_sequences, options))
    page = output or run / "look.html"
    for section in looking.write_inspection_page(page, job.network, example_sequences, view):
        if section.table is not None and len(section.table) <= _SHORT:
            print(f"{section.title}\n{format_table(section.table, section.best)}\n")
    print(f"page    {page}")


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(help="a public data set, to fetch it")] = None, as_json: Json = False
) -> None:
    """List the public data sets, or fetch one and say where it is."""
    from lstmkit.data import catalog

    if name is not None:
        print(catalog.locate(name, download=True))
        return
    rows = [{"name": n, "what": catalog.entry(n).title, "licence": catalog.entry(n).license} for n in catalog.names()]
    _print_rows(rows, as_json)


@app.command()
def reproduce(
    recipe: Annotated[str | None, typer.Argument(help="a recipe; without one they are listed")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the result")] = Path("results"),
    run: Annotated[
        Path | None, typer.Option("--run", help="folder to keep the run in, so that it can be resumed")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in that folder")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="delete the run in that folder first")] = False,
    as_json: Json = False,
) -> None:
    """Fit a recipe on public data and hold it against the published figure."""
    from lstmkit import recipes

    if recipe is None:
        _print_rows([{"recipe": r.name, "what": r.title} for r in recipes.all_recipes()], as_json)
        return
    _check_exclusive(resume, overwrite)
    if (resume or overwrite) and run is None:
        raise UserError(f"--{'resume' if resume else 'overwrite'} needs the folder of the run: --run DIR")
    result = recipes.reproduce(recipe, TerminalProgress(), run, resume, overwrite)
    path = result.write(output)
    _print_json(result.to_json()) if as_json else print(f"{result}\nresult  {path}")


@app.command(context_settings=_EXTRA_OPTIONS)
def lab(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="a lab; without one they are listed")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for numbers and picture")] = Path("lab"),
    as_json: Json = False,
) -> None:
    """Run an experiment on memory: RNN, GRU and LSTM side by side. Settings: --name value, as its file has them."""
    from lstmkit import lab as laboratory

    if name is None:
        _print_rows([{"lab": each.name, "what": each.title} for each in laboratory.all_labs()], as_json)
        return
    (name,), options = _split_arguments([name, *context.args], ["LAB"], flags=set())
    chosen = laboratory.find(name)
    texts = _with_values(options, list(chosen.settings), list(chosen.settings), "setting")
    changes = {key: _parse_like(key, text, chosen.settings[key]) for key, text in texts.items()}
    outcome = laboratory.run(laboratory.find(name, changes), TerminalProgress())
    numbers, picture = outcome.write(output)
    _print_json(outcome.to_json()) if as_json else print(f"{outcome}\nnumbers {numbers}\npicture {picture}")


def _check_exclusive(resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise SettingError("--resume goes on with the run that is there, --overwrite deletes it: give one of them")


@app.command()
def demo(
    run: Annotated[Path, typer.Option("-o", "--run", help="folder for model and report")] = Path("demo"),
) -> None:
    """Fit, backtest and forecast a real series that comes with the package."""
    from lstmkit.demo import run_demo

    run_demo(run, TerminalProgress())


def main() -> None:
    """Run a command; a user's mistake is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where the terminal or a pipe has no sign for a "…"
    try:
        code = app(standalone_mode=False)  # a number where typer itself has stopped it: 130 at Ctrl-C
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except UserError as err:
        _fail(str(err))
    except OSError as err:
        _fail(f"{err.filename or 'a file'}: {err.strerror or err}")
    except _USAGE_ERROR as err:
        _fail(f"{err.format_message() or 'give a command'} (see lstmkit --help)")
    if code == 130:
        print("stopped", file=sys.stderr)
    sys.exit(code or 0)


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


# ---- settings as options ---------------------------------------------------------------------------------------------


def _settings(cls: type[Job], context: typer.Context, given: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The positionals, and ``--name value``, ``--name=value``, ``--flag`` and ``--no-flag`` as settings of ``cls``."""
    declared = settings.declared(cls)
    flags = {name for name, f in declared.items() if isinstance(f.default, bool)}
    own = {p.name for p in context.command.params}
    words, options = _split_arguments([*given, *context.args], ["DATA"], flags)
    known = [*declared, *sorted(own - {"job", "data"})]
    given_texts = _with_values(options, list(declared), known, "setting")
    return words, {name: settings.parse(cls, name, text) for name, text in given_texts.items()}


def _options(context: typer.Context, run: Path, data: str) -> tuple[Path, str, dict[str, str | None]]:
    """``RUN`` and ``DATA``, and the verb's further options, in whatever order they were given."""
    words, options = _split_arguments([str(run), data, *context.args], ["RUN", "DATA"], flags=set())
    return Path(words[0]), words[1], options


def _known(method: Any, options: dict[str, str | None]) -> dict[str, Any]:
    """The keywords of the job's method, each of the kind that its default is; text where that is ``None``."""
    defaults = {name: p.default for name, p in inspect.signature(method).parameters.items() if name != "data"}
    texts = _with_values(options, list(defaults), list(defaults), "option")
    return {name: t if defaults[name] is None else _parse_like(name, t, defaults[name]) for name, t in texts.items()}


def _with_values(options: dict[str, str | None], able: list[str], known: list[str], what: str) -> dict[str, str]:
    """``options``, each one of ``able`` and with a value; where one is not, the nearest of ``known`` is named."""
    found = {}
    for name, text in options.items():
        if name not in able:
            raise SettingError(settings.unknown(name, known, what=what))
        if text is None:
            option = f"--{name.replace('_', '-')}"
            raise SettingError(f"{option} has no value: give it as {option} VALUE")
        found[name] = text
    return found


def _parse_like(name: str, text: str, sample: Any) -> Any:
    """``text`` as a value of the kind that ``sample`` is."""
    try:
        if isinstance(sample, list):
            return [type(sample[0])(part) for part in text.split(",")]
        return type(sample)(text)
    except ValueError as err:
        raise SettingError(f"{name} takes values like {sample}, not {text!r}") from err


def _whole_numbers(option: str, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in (text or "").split(",") if part.strip())
    except ValueError as err:
        raise SettingError(f"{option} takes whole numbers with commas between them, not {text!r}") from err


def _split_arguments(
    given: list[str], positionals: list[str], flags: set[str]
) -> tuple[list[str], dict[str, str | None]]:
    """What was given, as positionals and options, with ``None`` for a value left out; a flag's may be."""
    words: list[str] = []
    found: dict[str, str | None] = {}
    rest = list(given)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            words.append(word)
            continue
        name, has_value, text = word[2:].partition("=")
        name = name.replace("-", "_")
        if not has_value and name not in flags and name.removeprefix("no_") in flags:
            name, text = name.removeprefix("no_"), "false"
        elif not has_value and name in flags:
            text = rest.pop(0) if rest and rest[0].lower() in _YES_NO else "true"
        elif not has_value:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else None
        found[name] = text
    if len(words) > len(positionals):
        raise SettingError(f"unexpected {words[len(positionals)]!r}: settings are given as --name value")
    if len(words) < len(positionals):
        raise SettingError(f"{positionals[len(words)]} is missing")
    return words, found


def _check_picture(path: Path) -> None:
    if path.suffix.lower().removeprefix(".") not in _PICTURES:
        raise SettingError(f"{path}: pictures are written as {', '.join(_PICTURES)}, told by the name's ending")


# ---- print -----------------------------------------------------------------------------------------------------------


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def _print_rows(rows: list[dict[str, str]], as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    widths = {key: max(len(row[key]) for row in rows) for key in rows[0]}
    for row in rows:
        print("  ".join(text.ljust(widths[key]) for key, text in row.items()).rstrip())


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def _meaning(metadata: Any) -> str:
    return metadata["help"] + (f" ({', '.join(metadata['choices'])})" if metadata["choices"] else "")
