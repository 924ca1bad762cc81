"""The application: which address leads to which answer, and what a fault looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

import distill
from distill.config import ServeSettings
from distill.errors import UserError
from distill.runtime import Runtime
from distill.serve import schemas
from distill.serve.endpoints import Classifier, Endpoints
from distill.serve.limits import RefusedError
from distill.serve.metrics import MetricsMiddleware
from distill.serve.static import add_docs, add_page

REFUSALS = {
    408: "the body took too long to arrive",
    413: "the body is too large",
    422: "the body is no JSON of this shape, or has no texts, too many, or too long ones",
    429: "too many requests are waiting; Retry-After says when to try again",
    503: "the answer took too long",
}
COLUMN = "name the column text, or ask with &text_column=NAME"  # instead of the flag that --mode predict has for it
FILE: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}


class FastRoute:
    """Middleware: one endpoint's POST goes past FastAPI's routing, which takes longer than the student."""

    def __init__(self, app: ASGIApp, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self.app, self.path, self.endpoint = app, path, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the endpoint's requests; pass all others on, a HEAD as a GET whose body the server keeps back."""
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != "POST":
            await self.app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)
            return
        try:
            response = await self.endpoint(Request(scope, receive))
        except RefusedError as refused:
            response = refused.response()
        await response(scope, receive, send)


def create_app(
    runtime: Runtime, limits: ServeSettings, teacher: Classifier | None = None, page: bool = True, model: str = ""
) -> FastAPI:
    """The service of a student.

    Args:
        runtime: the student.
        limits: what is refused.
        teacher: who answers beside the student at /explain: ``labels`` and ``predict_proba``, in a thread of its own.
        page: whether to serve the page at /.
        model: the student's name, for /ready.
    """
    here = Endpoints(runtime, limits, teacher, model)
    title = "Chinese short-text classification"
    relative = [{"url": "."}]  # for /docs behind a gateway that serves this under a prefix
    app = FastAPI(
        title=title, version=distill.__version__, servers=relative, docs_url=None, redoc_url=None, lifespan=here.life
    )
    app.state.endpoints = here
    app.add_middleware(FastRoute, path="/predict", endpoint=here.predict)
    app.add_middleware(MetricsMiddleware, metrics=here.metrics)  # added last, it is the outer one
    predicted = schemas.Prediction | schemas.Predictions
    app.post("/predict", responses=_responses(predicted), openapi_extra=_body(schemas.PredictRequest))(here.predict)
    app.post("/explain", responses=_responses(schemas.Explanation), openapi_extra=_body(schemas.ExplainRequest))(
        here.explain
    )
    app.post("/label_file", responses=_responses(None), openapi_extra=FILE)(here.label_file)
    app.get("/health", response_model=schemas.Health)(here.health)
    app.get("/ready", response_model=schemas.Readiness, responses={503: {"model": schemas.Readiness}})(here.ready)
    app.get("/metrics", response_class=Response)(here.count)
    add_docs(app)
    if page:
        add_page(app)
    _say_faults(app)
    return app


def _body(shape: type[BaseModel]) -> dict[str, Any]:
    """A body for the schema. The endpoints read it themselves, in a fraction of the time that FastAPI's way takes."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": shape.model_json_schema()}}}}


def _responses(answer: Any) -> dict[int | str, dict[str, Any]]:
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": schemas.Fault, "description": why} for status, why in REFUSALS.items()
    }
    return {200: {"model": answer}, **refusals} if answer else refusals


def _say_faults(app: FastAPI) -> None:
    """Every fault is ``{"error", "hint"}``."""

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return error.response()

    @app.exception_handler(UserError)
    async def users(request: Request, error: UserError) -> Response:
        what = f"{error.where}: {error.what}" if error.where else error.what
        return RefusedError(422, what, error.hint.replace("--text_column NAME", COLUMN)).response()

    @app.exception_handler(RequestValidationError)
    async def wrong_query(request: Request, error: RequestValidationError) -> Response:
        return RefusedError(422, schemas.first_fault(error.errors()[0]), "see /docs").response()

    @app.exception_handler(HTTPException)
    async def astray(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path}: {str(error.detail).lower()}"
        response = RefusedError(error.status_code, what, "see /docs for what there is").response()
        response.headers.update(error.headers or {})  # which methods there are
        return response

    @app.exception_handler(Exception)
    async def ours(request: Request, error: Exception) -> Response:
        return RefusedError(500, "a fault of the service", "see its log").response()
