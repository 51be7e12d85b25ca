"""The command line: one verb, then the job or the run. Results on stdout, progress and log on stderr."""

from __future__ import annotations

import errno
import inspect
import io
import itertools
import json
import logging
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TextIO

import typer
from typer.core import TyperGroup

from lstmkit import command_options as options
from lstmkit import settings
from lstmkit.errors import MissingLibraryError, SettingError, UserError
from lstmkit.hub import command as hub_command
from lstmkit.jobs import job_class, job_names, load
from lstmkit.jobs.settings import settings_of
from lstmkit.progress import JsonProgress, Progress, TerminalProgress, printable
from lstmkit.serve import command as serve_command
from lstmkit.settings import unknown
from lstmkit.version import __version__

if TYPE_CHECKING:
    from lstmkit.jobs.base import Job


class _JobGroup(TyperGroup):
    """A group of jobs whose options may also come before the job's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0].startswith("-"):
            first = next((k for k, word in enumerate(args) if word in self.commands), 0)
            args = [args[first], *args[:first], *args[first + 1 :]]
        return super().parse_args(ctx, args)


app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Long short-term memory networks, from raw file to answer.",
)
fit_app = typer.Typer(
    cls=_JobGroup,
    no_args_is_help=True,
    help="Train a job on DATA and compare it with simple baselines: lstmkit fit JOB DATA -o RUN",
)
app.add_typer(fit_app, name="fit")

_USAGE_ERROR: Any = typer.BadParameter.__base__  # a malformed command line; typer does not export the class
_RUN_FILES = ("model.json", "run.json")
_IMAGE_SUFFIXES = ("png", "svg", "pdf", "jpg")
#: What to do about an error of the system.
_REMEDIES = {errno.ENOSPC: ": free disk space and run the command again; fit goes on with --resume"}
_MAX_PRINTED_ROWS = 40  # of a table; longer ones are on the page alone
_PASS_ON = {"ignore_unknown_options": True, "help_option_names": []}  # a second parser reads options, --help too

_FIT_KEYWORDS = ("validation", "run", "resume", "overwrite", "train")  # of Job.fit and load: no settings

DataArg = Annotated[str, typer.Argument(metavar="DATA", help="file or folder with the data")]
RunAndRest = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN DATA [OPTIONS]", help="run folder that 'fit' wrote, data, and options of its job"),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="delete the run in that folder first")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="resume the run in that folder")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]
ProgressOption = Annotated[
    Literal["bar", "json"], typer.Option(help="progress on stderr: as bars, or as lines of JSON for a program")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def main_options(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only warnings")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="also print the traceback of an error")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="print the version and exit", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Set how much is printed to stderr."""
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LogFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("lstmkit").setLevel(level)


class _LogFormatter(logging.Formatter):
    """Formats the log without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _print(text: object, file: TextIO | None = None) -> None:
    """Print text in which names and cells of the data cannot control the terminal."""
    print(printable(str(text)), file=file)


def _progress() -> Progress:
    return TerminalProgress(_as_typed) if logging.getLogger("lstmkit").isEnabledFor(logging.INFO) else Progress()


# ---- fit -------------------------------------------------------------------------------------------------------------


def _fit_command(job: str) -> Callable[..., None]:
    """The command ``lstmkit fit JOB``, with a typed option for every setting of the job."""
    cls = settings_of(job)
    own = [
        options.parameter("context", typer.Context),
        options.parameter("data", DataArg),
        options.parameter(
            "run", Annotated[Path, typer.Option("-o", "--run", help="folder for model, report and checkpoints")]
        ),
        options.parameter(
            "validation",
            Annotated[str | None, typer.Option(help="file for validation, instead of a part of DATA")],
            None,
        ),
        options.parameter("resume", ResumeOption, False),
        options.parameter("overwrite", OverwriteOption, False),
        options.parameter("as_json", Json, False),
        options.parameter("progress", ProgressOption, "bar"),
    ]

    def fit(
        context: typer.Context,
        data: str,
        run: Path,
        validation: str | None,
        resume: bool,
        overwrite: bool,
        as_json: bool,
        progress: str,
        **given: Any,
    ) -> None:
        def changed(name: str) -> bool:
            source = context.get_parameter_source(name)
            return source is not None and source.name != "DEFAULT"

        _check_exclusive(resume, overwrite)
        values = options.setting_values(cls, given, changed)
        if resume:
            from lstmkit.training.run_folder import RunFolder

            values = {**cls.current(RunFolder.read_run_metadata(run)["settings"]), **values}
        shown = JsonProgress(_as_typed) if progress == "json" else _progress()
        _fit(job, values, data, validation, run, resume, overwrite, as_json, shown)

    fit.__doc__ = f"{cls.summary}\n\nDATA is described on the job's page in the documentation."
    return options.with_parameters(fit, [*own, *options.settings_parameters(cls)])


def _fit(
    job: str,
    values: dict[str, Any],
    data: str,
    validation: str | None,
    run: Path,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    progress: Progress,
) -> None:
    from lstmkit.training import checkpoint

    fitted = job_class(job)(**values)
    fitted.fit(data, validation=validation, run=run, resume=resume, overwrite=overwrite, progress=progress)
    metrics = checkpoint.read_summed_json(run / "metrics.json")
    del metrics["format"]
    if as_json:
        _print_json({"run": str(run), **metrics})
        return
    if fitted.evaluation is not None:
        _print(fitted.evaluation)
    _print(f"model   {run}\nreport  {run / 'report.html'}")
    if "interrupted" in metrics["training"]:
        words = ["lstmkit", "fit", job, data, "-o", str(run), "--resume"]
        words += ["--validation", validation] if validation is not None else []
        _print(f"Training was interrupted; the model is usable. Resume with: {shlex.join(words)}")


for _job in job_names():
    fit_app.command(_job, short_help=settings_of(_job).summary)(_fit_command(_job))


# ---- the other verbs -------------------------------------------------------------------------------------------------


@app.command()
def jobs(
    job: Annotated[str | None, typer.Argument(help="a job, to list its settings")] = None, as_json: Json = False
) -> None:
    """List the jobs, or the settings of one."""
    if job is None:
        rows = [{"job": name, "what": settings_of(name).summary} for name in job_names()]
    else:
        if job not in job_names():
            raise UserError(unknown(job, job_names(), what="job"))
        rows = [
            {
                "setting": options.typed(name),
                "group": field.metadata["group"],
                "default": _as_option(field.default),
                "what": _meaning(field.metadata),
            }
            for fields in settings.grouped(settings_of(job)).values()
            for name, field in fields.items()
        ]
    _print_rows(rows, as_json)


@app.command(context_settings=_PASS_ON)
def predict(context: typer.Context, arguments: RunAndRest = None) -> None:
    """Answers for DATA from the model in RUN. Options depend on the job: lstmkit predict RUN --help."""

    def answer(job: Job, data: str, output: Path | None, picture: Path | None, as_json: bool, **given: Any) -> None:
        if picture is not None:
            _check_image_suffix(picture)
        for path in (output, picture):
            _check_can_be_made(path)
        predictions = job.predict(data, **given)
        if picture is not None:
            from lstmkit.report import save_figure

            with _writing(picture):
                save_figure(job.plot(data, predictions), picture, dpi=150)
        if output is not None and not as_json:
            with _writing(output):
                job.write(predictions, output)
            return
        text = json.dumps(job.to_records(predictions), indent=2, default=str) if as_json else job.to_text(predictions)
        if output is None:
            _print(text)
            return
        with _writing(output):
            output.write_text(text + "\n", encoding="utf-8")

    own = [
        options.parameter(
            "output",
            Annotated[Path | None, typer.Option("-o", "--output", help="file for the answer (default: stdout)")],
            None,
        ),
        options.parameter(
            "picture", Annotated[Path | None, typer.Option(help="file for a figure (png, svg, pdf)")], None
        ),
        options.parameter("as_json", Json, False),
    ]
    run, rest = _split_run(context, arguments or [], own, "predict")
    _with_job("predict", answer, run, rest, own, "predict")


@app.command(context_settings=_PASS_ON)
def evaluate(context: typer.Context, arguments: RunAndRest = None) -> None:
    """Score the model in RUN and baselines on new DATA. Options depend on the job: lstmkit evaluate RUN --help."""

    def score(
        job: Job,
        data: str,
        output: Path | None,
        train: str | None,
        validation: str | None,
        as_json: bool,
        **given: Any,
    ) -> None:
        _check_can_be_made(output)
        if train is not None or validation is not None:
            job = load(run, train=train, validation=validation)
        job.evaluation = job.evaluate(data, **given)
        _print_json(job.evaluation.to_json()) if as_json else _print(job.evaluation)
        if output is not None:
            with _writing(output):
                job.write_report(output, job.read(data))

    own = [
        options.parameter(
            "output", Annotated[Path | None, typer.Option("-o", "--output", help="page with scores and figures")], None
        ),
        options.parameter(
            "train",
            Annotated[
                str | None,
                typer.Option(help="file or folder that the run was fitted to, for the baselines that learn from it"),
            ],
            None,
        ),
        options.parameter(
            "validation",
            Annotated[str | None, typer.Option(help="validation file of the run, if 'fit' had one")],
            None,
        ),
        options.parameter("as_json", Json, False),
    ]
    run, rest = _split_run(context, arguments or [], own, "evaluate")
    _with_job("evaluate", score, run, rest, own, "evaluate")


@app.command(context_settings=_PASS_ON)
def look(context: typer.Context, arguments: RunAndRest = None) -> None:
    """Look inside: gates, memory, units, attribution, the cell in numbers. Options: lstmkit look RUN --help."""

    def inspect_run(
        job: Job,
        data: str,
        output: Path | None,
        units: str | None,
        layer: int | None,
        sort_by: str,
        unroll: bool,
        step: int | None,
        **given: Any,
    ) -> None:
        from lstmkit import look as inspection
        from lstmkit.report import format_table

        view = inspection.InspectionOptions(options.integers("--units", units), layer, sort_by, step, unroll)
        sequences = job.example_sequences(data, **given)
        page = output or run / "look.html"
        name = f"the {job.name.replace('_', ' ')}"
        for section in inspection.write_inspection_page(page, job.network, sequences, view, name):
            if section.table is not None and len(section.table) <= _MAX_PRINTED_ROWS:
                _print(f"{section.title}\n{format_table(section.table, section.best)}\n")
        _print(f"page    {page}")

    own = [
        options.parameter(
            "output", Annotated[Path | None, typer.Option("-o", "--output", help="page (default: RUN/look.html)")], None
        ),
        options.parameter(
            "units", Annotated[str | None, typer.Option(help="units to draw, from 0: 3,17 (default: all)")], None
        ),
        options.parameter(
            "layer", Annotated[int | None, typer.Option(help="layer to draw, from 1 (default: all)")], None
        ),
        options.parameter(
            "sort_by", Annotated[str, typer.Option(help="gate or state that units are sorted by")], "forget"
        ),
        options.parameter(
            "unroll",
            Annotated[bool, typer.Option("--unroll", help="only draw the cell with the numbers of one step")],
            False,
        ),
        options.parameter(
            "step", Annotated[int | None, typer.Option(help="that step, from 0 (default: the last)")], None
        ),
    ]
    run, rest = _split_run(context, arguments or [], own, "example_sequences")
    _with_job("look", inspect_run, run, rest, own, "example_sequences")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run folder that 'fit' wrote")],
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the export")],
    format: Annotated[str, typer.Option(help="format of the networks: onnx, torch or safetensors")] = "onnx",
    quantize: Annotated[str, typer.Option(help="int8 for weights in 8 bits (onnx, safetensors)")] = "none",
    opset: Annotated[int, typer.Option(help="version of ONNX's operators, 17 to 23 (format onnx)")] = 18,
    as_json: Json = False,
) -> None:
    """Write the model in RUN for use without torch: lstmkit export RUN -o FOLDER."""
    job = load(run)
    job.progress = _progress()
    files = job.export(output, format, quantize=quantize, opset=opset)
    _print_rows([{"file": str(path), "size": f"{path.stat().st_size:,} bytes"} for path in files], as_json)


def _split_run(
    context: typer.Context, arguments: Sequence[str], own: Sequence[inspect.Parameter], method: str
) -> tuple[Path, list[str]]:
    """The run folder among the arguments, and the other arguments; without one the help, with the options of each job.

    Args:
        context: That of the verb.
        arguments: All words after the verb.
        own: Options that do not depend on the job.
        method: The method of a job whose keywords are options of the verb.
    """
    names = [k for k, word in enumerate(arguments) if not word.startswith("-")]
    if not names:
        _help_or_fail(context, arguments, "RUN", lambda: _options_by_job(own, method))
    place = names[0]
    if place > 0:  # options come first, and without the job it is not known which of them take a value
        folders = [k for k in names if any((Path(arguments[k]) / file).exists() for file in _RUN_FILES)]
        values = [k for k in folders if arguments[k - 1].startswith("-") and "=" not in arguments[k - 1]]
        place = next(iter([*(k for k in folders if k not in values), *values, place]))
    return Path(arguments[place]), [*arguments[:place], *arguments[place + 1 :]]


def _help_or_fail(
    context: typer.Context, arguments: Sequence[str], missing: str, more: Callable[[], str] = str
) -> NoReturn:
    if "--help" not in arguments:
        raise UserError(f"Missing argument '{missing}'. (see {context.command_path} --help)")
    print(context.get_help(), end="")
    _print(more())
    raise typer.Exit


def _options_by_job(own: Sequence[inspect.Parameter], method: str) -> str:
    """A table of the options of a verb: its own, and those that a method has in each job."""

    def of_job(name: str) -> str:
        try:
            return " ".join(map(options.typed, options.keywords(getattr(job_class(name), method)))) or "–"
        except MissingLibraryError as err:
            return f"({err})"

    of_all = " ".join(options.typed(one.name.removeprefix("as_")) for one in own)
    rows = {"every job": of_all, **{name: of_job(name) for name in job_names()}}
    lines = [f"  {name:<{max(map(len, rows))}}  {text}" for name, text in rows.items()]
    return "\n".join(["Options by the job of RUN:", *lines])


def _with_job(
    verb: str,
    function: Callable[..., None],
    run: Path,
    rest: Sequence[str],
    own: Sequence[inspect.Parameter],
    method_name: str,
) -> None:
    """Run a verb whose further options are the keywords of a method of the job in ``run``."""
    job = load(run)
    method = getattr(job, method_name)

    def command(**given: Any) -> None:
        function(job, **given)

    data_help = options.documented(method).get("data", "file or folder with the data")
    data = options.parameter("data", Annotated[str, typer.Argument(metavar="DATA", help=data_help)])
    parameters = [data, *own, *options.keyword_parameters(method)]
    help = f"lstmkit {verb} {run} DATA, for a run of the {job.name}"
    _run_command(options.with_parameters(command, parameters), help, rest, f"lstmkit {verb} {run}")


def _run_command(command: Callable[..., None], help: str, arguments: Sequence[str], name: str) -> None:
    """Run a function as the command ``name``, and stop with its exit code."""
    parser = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    parser.command(help=help)(command)
    try:
        code = parser(list(arguments), standalone_mode=False, prog_name=name)
    except UserError as err:
        raise type(err)(options.as_typed(str(err), inspect.signature(command).parameters)) from err
    if code:
        raise typer.Exit(code)


@app.command()
def data(
    name: Annotated[str | None, typer.Argument(help="a public data set, to download it")] = None, as_json: Json = False
) -> None:
    """List the public data sets, or download one and print its folder."""
    from lstmkit.data import catalog

    if name is not None:
        _print(catalog.locate(name, download=True))
        return
    rows = [{"name": n, "what": catalog.entry(n).title, "license": catalog.entry(n).license} for n in catalog.names()]
    _print_rows(rows, as_json)


@app.command()
def reproduce(
    recipe: Annotated[str | None, typer.Argument(help="a recipe; without one they are listed")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="folder for the result")] = Path("results"),
    run: Annotated[Path | None, typer.Option("--run", help="folder to keep the run in, so that it can resume")] = None,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: Json = False,
) -> None:
    """Fit a recipe on public data and compare it with the published figure."""
    from lstmkit import recipes

    if recipe is None:
        _print_rows([{"recipe": r.name, "what": r.title} for r in recipes.all_recipes()], as_json)
        return
    _check_exclusive(resume, overwrite)
    if (resume or overwrite) and run is None:
        raise UserError(f"--{'resume' if resume else 'overwrite'} needs the folder of the run: --run DIR")
    result = recipes.reproduce(recipe, _progress(), run, resume, overwrite)
    path = result.write(output)
    _print_json(result.to_json()) if as_json else _print(f"{result}\nresult  {path}")


app.command()(serve_command.serve)


@app.command(context_settings=_PASS_ON)
def lab(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME [OPTIONS]", help="a lab and its options; without one the labs are listed"),
    ] = None,
) -> None:
    """Run an experiment on memory: RNN, GRU and LSTM side by side. Options: lstmkit lab NAME --help."""
    from lstmkit import lab as laboratory

    words = arguments or []
    if not words or words == ["--json"]:
        _print_rows([{"lab": each.name, "what": each.title} for each in laboratory.all_labs()], bool(words))
        return
    if words[0].startswith("-"):
        _help_or_fail(context, words, "NAME")
    name, *rest = words
    chosen = laboratory.find(name)

    def run_lab(output: Path, as_json: bool, **given: Any) -> None:
        changes = {key: _parse_like(key, text, chosen.settings[key]) for key, text in given.items() if text is not None}
        outcome = laboratory.run(laboratory.find(chosen.name, changes), _progress())
        numbers, picture = outcome.write(output)
        _print_json(outcome.to_json()) if as_json else _print(f"{outcome}\nnumbers {numbers}\npicture {picture}")

    own = [
        options.parameter(
            "output",
            Annotated[Path, typer.Option("-o", "--output", help="folder for numbers and picture")],
            Path("lab"),
        ),
        options.parameter("as_json", Json, False),
    ]
    of_lab = [
        options.parameter(key, Annotated[str | None, typer.Option(help=f"default: {_as_option(value)}")], None)
        for key, value in chosen.settings.items()
    ]
    _run_command(options.with_parameters(run_lab, [*own, *of_lab]), chosen.title, rest, f"lstmkit lab {name}")


@app.command()
def studio(
    folder: Annotated[Path, typer.Argument(help="folder for data and runs")] = Path("lstmkit-studio"),
    port: Annotated[int, typer.Option(help="port on this machine; 0 = any free one", min=0, max=65535)] = 8400,
    browser: Annotated[bool, typer.Option(help="open the page in a browser")] = True,
) -> None:
    """Train, inspect and compare models in the browser, on this machine."""
    from lstmkit.studio.command import run_studio

    run_studio(folder, port, browser)


@app.command()
def demo(
    run: Annotated[Path, typer.Option("-o", "--run", help="folder for model and report")] = Path("demo"),
) -> None:
    """Fit, backtest and forecast a real series that comes with the package."""
    from lstmkit.demo import run_demo

    run_demo(run, _progress())


app.command()(hub_command.push)
app.command()(hub_command.pull)


def main() -> None:
    """Run a command; a user's mistake is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal or a pipe may have no glyph for a "…"
    warnings.formatwarning = lambda message, *_args, **_options: f"warning: {_as_typed(message)}\n"
    try:
        code = app(standalone_mode=False, prog_name="lstmkit")  # a number if typer itself stopped it: 130 at Ctrl-C
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except UserError as err:
        _fail(_as_typed(err))
    except OSError as err:
        _fail(f"{err.filename or 'a file'}: {err.strerror or err}{_REMEDIES.get(err.errno or 0, '')}")
    except _USAGE_ERROR as err:
        _fail(_usage_message(err))
    if code == 130:
        _print("stopped", file=sys.stderr)
    sys.exit(code or 0)


def _as_typed(message: object) -> str:
    """A message of the package, which names keywords of Python, with the options of the command line instead."""
    of_jobs = (settings.declared(settings_of(job)) for job in job_names())
    return options.as_typed(str(message), {*_FIT_KEYWORDS, *itertools.chain(*of_jobs)})


def _usage_message(err: Any) -> str:
    """typer's message, with the value that it found and the command whose help explains it."""
    message = err.format_message() or "give a command"
    message = message.replace("Value error, ", "").replace(": Input should be", ": must be")
    message = re.sub(r", unable to parse \w+ as an? \w+", "", message)
    if hasattr(err.__cause__, "errors"):  # pydantic's ValidationError, in newer versions of typer
        found = repr(err.__cause__.errors()[0]["input"])
        message += "" if found in message else f", got {found}"
    return f"{message} (see {'lstmkit' if err.ctx is None else err.ctx.command_path} --help)"


def _fail(message: str) -> NoReturn:
    if logging.getLogger("lstmkit").isEnabledFor(logging.DEBUG):
        _print(traceback.format_exc(), file=sys.stderr)
    _print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _check_exclusive(resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise SettingError("--resume continues the run in the folder, --overwrite deletes it: give one of them")


def _parse_like(name: str, text: str, sample: Any) -> Any:
    """``text`` as a value of the type that ``sample`` has."""
    try:
        if isinstance(sample, list):
            return [type(sample[0])(part) for part in text.split(",")]
        return type(sample)(text)
    except ValueError as err:
        raise SettingError(f"{name} takes values like {sample}, not {text!r}") from err


def _check_can_be_made(path: Path | None) -> None:
    """Raise UserError if the folder of a file to write can be neither used nor made."""
    if path is not None:
        place = next(parent for parent in path.parents if parent.exists())
        if not place.is_dir():
            raise UserError(f"{path} cannot be written: {place} is a file, not a folder")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make the file's folder, write the file in the block, and say where it is. The system's errors name the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except OSError as err:
        raise OSError(err.errno, err.strerror or str(err), str(err.filename or path)) from err
    _progress().say(f"written {path}")


def _check_image_suffix(path: Path) -> None:
    if path.suffix[1:].lower() not in _IMAGE_SUFFIXES:
        raise UserError(f"{path}: images are written as {', '.join(_IMAGE_SUFFIXES)}: give one of these endings")


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    widths = {name: max(len(row[name]) for row in rows) for name in rows[0]}
    for row in rows:
        _print("  ".join(text.ljust(widths[name]) for name, text in row.items()).rstrip())


def _print_json(value: Any) -> None:
    _print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _as_option(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _meaning(metadata: Any) -> str:
    return metadata["help"] + (f" ({', '.join(metadata['choices'])})" if metadata["choices"] else "")
