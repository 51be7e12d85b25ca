"""Models to and from the Hugging Face hub, a public store of models. Only files of known names travel."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lstmkit.data.files import check_decoded_size
from lstmkit.errors import ModelFileError, UserError, one_line
from lstmkit.jobs import load
from lstmkit.libraries import import_library
from lstmkit.training.checkpoint import DESCRIPTION, WEIGHTS
from lstmkit.training.run_folder import CARD, HISTORY, METRICS, REPORT

_NEEDED = (DESCRIPTION, WEIGHTS)
_PULLED = (*_NEEDED, CARD, METRICS, HISTORY)  # a report of someone else is a page that may run code in a browser
_PURPOSE = "the Hugging Face hub"


def push(run: str | Path, repo_id: str, *, private: bool = False, report: bool = True, token: str | None = None) -> str:
    """Upload the model of a run to the Hugging Face hub, as one commit.

    The files are ``model.json``, ``weights.safetensors``, and those that the run has of ``README.md``,
    ``metrics.json``, ``history.csv`` and ``report.html``. Nothing else of the folder is uploaded.

    Args:
        run: The folder that ``save`` or ``fit`` wrote.
        repo_id: ``"USER/NAME"``. The repository is made if there is none.
        private: Only you can see a repository that is made now.
        report: Upload ``report.html`` too, which may show examples from your data.
        token: Access token with the right to write; by default that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        Address of the repository.

    Raises:
        ModelFileError: The folder holds no complete model.
        MissingLibraryError: huggingface_hub is not installed; a UserError.
        UserError: The hub cannot be reached, or refuses the name or the token.
    """
    folder = Path(run)
    hub = import_library("huggingface_hub", "hub", _PURPOSE)
    job = load(folder)
    names = [name for name in (*_PULLED, *([REPORT] if report else [])) if (folder / name).is_file()]
    api = hub.HfApi(token=token)
    files = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in names]
    with _reaching(repo_id):
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.create_commit(url.repo_id, files, commit_message=f"Upload the model of an lstmkit {job.name}")
    return str(url)


def pull(repo_id: str, run: str | Path, *, revision: str | None = None, token: str | None = None) -> Path:
    """Download a model from the Hugging Face hub and check that it loads.

    The files are those of :func:`push` without ``report.html``, which could run code in a browser; others of the
    repository are not downloaded. Nothing is written to ``run`` unless the model loads.

    Args:
        repo_id: ``"USER/NAME"``.
        run: A new folder for the model.
        revision: Branch, tag or commit; by default the newest.
        token: Access token for a private repository; by default that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        ``run``.

    Raises:
        ModelFileError: The repository holds no model of lstmkit, or a damaged one.
        DataError: The files take more than ``LSTMKIT_MAX_DECODED_MB``.
        MissingLibraryError: huggingface_hub, or a library of the job, is not installed; a UserError.
        UserError: The folder exists, there is no such repository, or the hub cannot be reached.
    """
    folder = Path(run)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: give a new folder")
    hub = import_library("huggingface_hub", "hub", _PURPOSE)
    api = hub.HfApi(token=token)
    with _reaching(repo_id):
        info = api.model_info(repo_id, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or () if file.rfilename in _PULLED}
    missing = [name for name in _NEEDED if name not in sizes]
    if missing:
        raise ModelFileError(f"{repo_id} holds no model of lstmkit: {' and '.join(missing)} missing")
    check_decoded_size(sum(sizes.values()), repo_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(folder.absolute()) as temporary:
        with _reaching(repo_id):
            _download(api, repo_id, info.sha, list(sizes), temporary / "download")
        loadable = temporary / folder.name
        loadable.mkdir()
        for name in sizes:
            os.replace(temporary / "download" / name, loadable / name)
        load(loadable)
        with contextlib.suppress(FileNotFoundError):
            folder.rmdir()  # an empty one
        os.replace(loadable, folder)
    return folder


def _download(api: Any, repo_id: str, sha: str, names: Sequence[str], folder: Path) -> None:
    """Download files of one commit into a folder; the library leaves notes of its own beside them."""
    for name in names:
        api.hf_hub_download(repo_id, name, revision=sha, local_dir=folder)


@contextmanager
def _temporary_folder(beside: Path) -> Iterator[Path]:
    """A folder beside another one, on the same disk; it is deleted in the end."""
    folder = beside.with_name(f".{beside.name}.{secrets.token_hex(4)}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _reaching(repo_id: str) -> Iterator[None]:
    """The boundary to the hub: whatever its client raises becomes one UserError, but for errors of our own disk."""
    errors = import_library("huggingface_hub.errors", "hub", _PURPOSE)
    login = "log in with 'hf auth login', or set HF_TOKEN"
    name = one_line(repo_id)
    try:
        yield
    except errors.HFValidationError as err:
        raise UserError(f"{name!r} is not a name of a repository: give USER/NAME") from err
    except errors.LocalTokenNotFoundError as err:
        raise UserError(f"the hub needs an access token for {name}: {login}") from err
    except errors.GatedRepoError as err:
        raise UserError(f"{name} asks for its conditions to be accepted: do that on its page, then {login}") from err
    except errors.RevisionNotFoundError as err:
        raise UserError(f"{name} has no such revision: give another one") from err
    except errors.RepositoryNotFoundError as err:
        raise UserError(f"{name} is not on the hub, or is private: check the name, or {login}") from err
    except errors.HfHubHTTPError as err:
        status = getattr(err.response, "status_code", "no status")
        if status in (401, 403):
            raise UserError(f"the hub refuses the access token for {name} ({status}): {login}") from err
        raise UserError(f"the hub refuses {name} ({status}, {one_line(err)}): try again later") from err
    except Exception as err:  # each version of the client has another library for the network
        if isinstance(err, OSError) and err.errno is not None and err.filename is not None:
            raise
        reason = one_line(err) or type(err).__name__
        raise UserError(f"the hub cannot be reached ({reason}): check the network, a proxy and HF_ENDPOINT") from err
