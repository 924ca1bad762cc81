"""The web page at / and Swagger UI at /docs, from files in installed packages; nothing is loaded from other hosts."""

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
PAGE_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
# Swagger UI needs an inline script, inline styles and images as data URLs.
SWAGGER_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)


class _Files(StaticFiles):
    """The files of a folder, with security headers."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        return _with_headers(await super().get_response(path, scope), PAGE_POLICY)


def _with_headers(response: Response, policy: str) -> Response:
    """Add the security headers, and "no-cache": browsers revalidate, so that an update is seen at once."""
    response.headers.update({"Content-Security-Policy": policy, "Cache-Control": "no-cache"})
    return response


def add_page(app: FastAPI) -> None:
    """Serve the page: index.html at /, its other files at /page/."""
    page_files = _Files(directory=PAGE)

    @app.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return await page_files.get_response("index.html", request.scope)

    app.mount("/page", page_files)


def add_docs(app: FastAPI) -> None:
    """Serve Swagger UI at /docs, from the copy in the package fastapi-offline."""
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
        return _with_headers(page, SWAGGER_POLICY)
