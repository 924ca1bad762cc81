"""The page at / and Swagger UI at /docs: files that lie beside the program; no outside address is loaded."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

PAGE = Path(__file__).parent / "page"
OWN = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
# Swagger UI starts from a script within its page and draws with styles and images within its files.
SWAGGER = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)


class _Files(StaticFiles):
    """A folder's files; a browser asks each time whether they changed, so that an update shows at once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        return _guarded(await super().get_response(path, scope), OWN)


def _guarded(response: Response, policy: str) -> Response:
    response.headers.update(
        {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    )
    return response


def add_page(app: FastAPI) -> None:
    """Serve the page: index.html at /, its other files at /page/."""
    shown = _Files(directory=PAGE)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return await shown.get_response("index.html", request.scope)

    app.mount("/page", shown)


def add_docs(app: FastAPI) -> None:
    """Serve Swagger UI at /docs, from the copy that the package fastapi-offline carries."""
    app.mount("/docs/files", _Files(directory=str(files("fastapi_offline") / "static")))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/files/swagger-ui-bundle.js",
            swagger_css_url="docs/files/swagger-ui.css",
            swagger_favicon_url="docs/files/favicon.png",
        )
        return _guarded(page, SWAGGER)
