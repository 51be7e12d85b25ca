"""The application: its routes and its parts."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from lstmkit.errors import UserError
from lstmkit.studio.models import Models
from lstmkit.studio.page import Studio, error_page
from lstmkit.studio.pages import compare, fit, look, run, start, try_model
from lstmkit.studio.security import Guard
from lstmkit.studio.training import Trainings
from lstmkit.studio.workspace import Workspace

_DAY = {"Cache-Control": "max-age=86400"}


def create_app(folder: Path) -> Starlette:
    """The studio over a folder with data and runs."""
    app = Starlette(
        routes=[
            Route("/", start.start),
            Route("/fit/{job}", fit.choose_data),
            Route("/fit/{job}/data", fit.add_data, methods=["POST"]),
            Route("/fit/{job}/sample", fit.add_sample, methods=["POST"]),
            Route("/fit/{job}/{data}", fit.choose_settings),
            Route("/fit/{job}/{data}", fit.start_run, methods=["POST"]),
            Route("/compare", compare.show),
            Route("/runs/{run}", run.show),
            Route("/runs/{run}/status", run.status),
            Route("/runs/{run}/stop", run.stop, methods=["POST"]),
            Route("/runs/{run}/resume", run.resume, methods=["POST"]),
            Route("/runs/{run}/delete", start.remove, methods=["POST"]),
            Route("/runs/{run}/report", run.report),
            Route("/runs/{run}/download/{format}", run.download),
            Route("/runs/{run}/try", try_model.show),
            Route("/runs/{run}/try", try_model.ask, methods=["POST"]),
            Route("/runs/{run}/answers/{number:int}/{file}", try_model.answer_file),
            Route("/runs/{run}/look", look.show),
            Route("/plotly.js", _plotly),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(Guard), Middleware(GZipMiddleware, minimum_size=2000)],
        exception_handlers={UserError: error_page, 404: error_page, Exception: error_page},
    )
    app.state.studio = Studio(Workspace(folder), Trainings(), Models())
    return app


def _plotly(_: Request) -> Response:
    """The charts' library, from its Python package."""
    path = Path(str(files("plotly"))) / "package_data" / "plotly.min.js"
    return FileResponse(path, media_type="text/javascript", headers=_DAY)
