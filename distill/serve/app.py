"""The FastAPI application: its routes, their documentation, and one JSON form for all errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

import distill
from distill.config import ServeSettings, UnsureSettings
from distill.errors import UserError
from distill.runtime import Runtime
from distill.runtime.unsure import Classifier
from distill.serve import schemas
from distill.serve.direct import PREDICT_PATH, DirectPredict
from distill.serve.endpoints import Endpoints
from distill.serve.limits import RefusedError, refusal_of
from distill.serve.metrics import MetricsMiddleware, Totals
from distill.serve.security import add_guard
from distill.serve.static import add_docs, add_page

REFUSALS = {
    400: "the request is not valid HTTP, or its body did not arrive completely",
    401: "the token is missing or wrong",
    403: "the host name or the origin is not allowed",
    408: "the body took too long to arrive",
    413: "the body is too large",
    422: "the body does not match the schema, or its texts are missing, too many or too long",
    429: "too many requests are waiting, or their bodies are too large; try again after Retry-After seconds",
    503: "the response took too long",
}
COLUMN_HINTS = {  # instead of the flag of --mode predict
    "--text_column NAME": "name the column text, or add &text_column=NAME",
    "--text_column NUMBER": "add &text_column=NUMBER",
}
FILE_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}


class FastRoute:
    """Middleware that sends one endpoint's POST past FastAPI's routing, which takes longer than the student."""

    def __init__(self, app: ASGIApp, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self.app, self.path, self.endpoint = app, path, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the endpoint's POST requests and pass on all others.

        HEAD is passed on as GET, for which routes exist; the server does not send the body.
        """
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != "POST":
            await self.app({**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope, receive, send)
            return
        try:
            response = await self.endpoint(Request(scope, receive))
        except RefusedError as refused:
            response = refused.response()
        await response(scope, receive, send)


def create_app(
    runtime: Runtime,
    limits: ServeSettings,
    teacher: Classifier | Mapping[str, Classifier] | None = None,
    page: bool = True,
    model: str = "",
    *,
    load: Callable[[], tuple[Runtime, str]] | None = None,
    unsure: UnsureSettings | None = None,
    totals: Totals | None = None,
    escape_formulas: bool = True,
) -> FastAPI:
    """The application that serves a student.

    Args:
        runtime: the student.
        limits: limits on requests.
        teacher: predicts next to the student in /explain and labels the unsure texts of a cascade, in its own thread;
            None: there is no teacher. Of a student of several tasks, a dictionary of teachers by the task's name.
        page: whether to serve the web page at /.
        model: name of the student, for /ready and the page.
        load: loads the student and its name again, for a reload.
        unsure: what is done with texts of which the student is not sure; None: nothing.
        totals: the metrics of all workers; None: this process is the only one.
        escape_formulas: whether no cell of a labelled table for spreadsheets is a formula.

    Raises:
        UserError: ``unsure`` does not fit the student's labels, the token cannot be used, or an allowed origin is not
            one.
    """
    endpoints = Endpoints(
        runtime, limits, teacher, model, load=load, unsure=unsure, totals=totals, escape_formulas=escape_formulas
    )
    app = FastAPI(
        title="Chinese short-text classification",
        version=distill.__version__,
        servers=[{"url": "."}],  # relative, so that /docs works behind a gateway that adds a path prefix
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # looking for it takes time in every request
        redirect_slashes=False,  # it would redirect to the host that the client names
        lifespan=endpoints.lifespan,
    )
    app.state.endpoints = endpoints
    app.add_middleware(FastRoute, path=PREDICT_PATH, endpoint=endpoints.predict)
    app.state.direct = DirectPredict(endpoints, add_guard(app, limits))
    # added last, so it is the outer one
    app.add_middleware(MetricsMiddleware, metrics=endpoints.metrics, refusal_of=refusal_of)
    _add_routes(app, endpoints)
    add_docs(app)
    if page:
        add_page(app)
    _add_error_handlers(app)
    return app


def _add_routes(app: FastAPI, endpoints: Endpoints) -> None:
    predictions = schemas.Prediction | schemas.MultiLabelPrediction | schemas.TasksPrediction | schemas.PredictionList
    explanations = schemas.Explanation | schemas.TasksExplanation
    app.post(PREDICT_PATH, responses=_responses(predictions), openapi_extra=_json_body(schemas.PredictRequest))(
        endpoints.predict
    )
    app.post("/explain", responses=_responses(explanations), openapi_extra=_json_body(schemas.ExplainRequest))(
        endpoints.explain
    )
    app.post("/label_file", responses=_responses(None), openapi_extra=FILE_BODY)(endpoints.label_file)
    app.get("/examples", response_model=schemas.Examples)(endpoints.examples)
    app.get("/health", response_model=schemas.Health)(endpoints.health)
    not_ready: dict[int | str, dict[str, Any]] = {503: {"model": schemas.Readiness}}
    app.get("/ready", response_model=schemas.Readiness, responses=not_ready)(endpoints.ready)
    app.get("/metrics", response_class=Response)(endpoints.prometheus)
    if endpoints.limits.allow_reload:
        busy = {409: {"model": schemas.Fault, "description": "the bundle is being loaded already"}}
        responses = _responses(schemas.Readiness) | busy
        app.post("/reload", response_model=schemas.Readiness, responses=responses)(endpoints.reload)


def _json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """Document a request's body. The endpoints parse it themselves, in a fraction of the time that FastAPI takes."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema.model_json_schema()}}}}


def _responses(success: Any) -> dict[int | str, dict[str, Any]]:
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": schemas.Fault, "description": why} for status, why in REFUSALS.items()
    }
    return {200: {"model": success}, **refusals} if success else refusals


def _add_error_handlers(app: FastAPI) -> None:
    """Return every error as ``{"error", "hint"}``."""

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return error.response()

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        what = f"{error.where}: {error.what}" if error.where else error.what
        hint = error.hint
        for flag, parameter in COLUMN_HINTS.items():
            hint = hint.replace(flag, parameter)
        return RefusedError(422, what, hint).response()

    @app.exception_handler(RequestValidationError)
    async def invalid_query(request: Request, error: RequestValidationError) -> Response:
        return RefusedError(422, schemas.describe_error(error.errors()[0]), "see /docs").response()

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.scope['path']}: {str(error.detail).lower()}"
        headers = dict(error.headers or {})  # such as Allow
        return RefusedError(error.status_code, what, "see /docs for the endpoints", headers).response()
