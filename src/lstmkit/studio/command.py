"""The command ``lstmkit studio``."""

from __future__ import annotations

import signal
import socket
import webbrowser
from pathlib import Path

from lstmkit.errors import UserError
from lstmkit.libraries import imports_of

_HOST = "127.0.0.1"  # of this machine alone: the pages have no password


def run_studio(folder: Path, port: int, browser: bool) -> None:
    """Serve the studio until Ctrl-C.

    Args:
        folder: Folder for data and runs.
        port: Port of the pages; 0 for any free one.
        browser: Open the first page in the browser.

    Raises:
        MissingLibraryError: The extra ``studio`` is not installed.
        UserError: The port is in use, or the folder is a file.
    """
    with imports_of("studio", "the studio"):
        import plotly  # noqa: F401  (its JavaScript draws the charts)
        import uvicorn

        from lstmkit.studio.app import create_app
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give a folder")
    sock = _bound(port)
    address = f"http://{_HOST}:{sock.getsockname()[1]}/"
    print(f"lstmkit studio  {address}\nfolder          {folder.absolute()}\nStop with Ctrl-C. A training goes on.")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # else trainings would inherit it, and could not be stopped
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if browser:
        webbrowser.open(address)
    server = uvicorn.Server(uvicorn.Config(create_app(folder), log_level="warning", access_log=False))
    server.run(sockets=[sock])


def _bound(port: int) -> socket.socket:
    """A socket on the port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((_HOST, port))
    except OSError as err:
        sock.close()
        raise UserError(f"port {port} cannot be used ({err.strerror}): give another one with port=NUMBER") from err
    return sock
