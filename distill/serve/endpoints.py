"""The endpoints of the service, one method each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import PurePath
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

import distill
from distill.config import ServeSettings
from distill.predict.checkpoint import Counts
from distill.predict.in_memory import label_stream
from distill.progress import log
from distill.runtime import Runtime
from distill.serve.batching import Batcher, WorkerThread
from distill.serve.explain import word_weights
from distill.serve.limits import ConcurrencyLimit, json_response, read_body, with_timeout
from distill.serve.metrics import TEXTS_KEY, Metrics
from distill.serve.schemas import ExplainRequest, PredictRequest, check_texts, parse_body

MAX_WAITING_EXPLANATIONS = 8  # requests that may wait for an explanation, and for the teacher
MAX_WAITING_FILES = 4
FILE_FACTOR = 20  # a file may have this many times the bytes and the seconds of a request
DIGITS = 6  # of probabilities, after the decimal point
COUNTED_PATHS = frozenset(("/", "/predict", "/explain", "/label_file", "/health", "/ready", "/metrics", "/docs"))


class Classifier(Protocol):
    """What the student (Runtime) and the teacher have in common."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        ...

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``."""
        ...


class Endpoints:
    """The state of the service and its endpoints.

    Args:
        runtime: the student.
        limits: limits on requests.
        teacher: predicts next to the student in /explain, if there is one.
        model: name of the student.
    """

    def __init__(self, runtime: Runtime, limits: ServeSettings, teacher: Classifier | None, model: str) -> None:
        self.runtime, self.limits, self.teacher, self.model = runtime, limits, teacher, model
        self.status = "starting"
        self._waiting = ConcurrencyLimit(limits.most_waiting)
        self.metrics = Metrics(COUNTED_PATHS, lambda: self._waiting.active, limits.access_log)
        self._batcher = Batcher(runtime.predict_proba, self.metrics.count_batch)
        self._teacher_thread = WorkerThread("teacher", MAX_WAITING_EXPLANATIONS, limits.wait_s)
        self._explain_thread = WorkerThread("explain", MAX_WAITING_EXPLANATIONS, limits.wait_s)
        self._file_thread = WorkerThread("files", MAX_WAITING_FILES, FILE_FACTOR * limits.wait_s)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Start the background work before the first request, and end it after the last."""
        if self.teacher is not None:  # load it now, and let it predict a first text, which takes longest
            self._teacher_thread.start(functools.partial(_timed_prediction, self.teacher, "…"))
        self.status = "ready"
        summaries = asyncio.create_task(self.metrics.log_every_minute())
        yield
        self.status = "stopping"
        summaries.cancel()
        self.metrics.log_summary()
        for worker in (self._batcher, self._teacher_thread, self._explain_thread, self._file_thread):
            worker.close()

    async def predict(self, request: Request) -> Response:
        """The label of one text, or of several in order."""
        with self._waiting:
            body = parse_body(PredictRequest, await read_body(request, self.limits.most_bytes, self.limits.wait_s))
            texts = body.checked_texts(self.limits)
            rows = await with_timeout(self._batcher(texts), self.limits.wait_s)
        request.scope[TEXTS_KEY] = len(texts)
        predictions = [self._prediction(row, body.probabilities) for row in rows.tolist()]
        return json_response(predictions[0] if body.is_single else {"predictions": predictions})

    def _prediction(self, row: list[float], with_probabilities: bool) -> dict[str, Any]:
        highest = max(row)
        prediction: dict[str, Any] = {
            "label": self.runtime.labels[row.index(highest)],
            "probability": round(highest, DIGITS),
        }
        return prediction | {"probabilities": _by_label(self.runtime.labels, row)} if with_probabilities else prediction

    async def explain(self, request: Request) -> Response:
        """The predictions of student and teacher, and the influence of each word on the student's."""
        with self._explain_thread.limit:
            body = parse_body(ExplainRequest, await read_body(request, self.limits.most_bytes, self.limits.wait_s))
            [text] = check_texts([body.text], self.limits)
            explanation = await self._explain_thread.run(functools.partial(_explain, self.runtime, text))
            teacher = await self._teacher_prediction(text)  # after the student, so that it does not slow its timing
        return json_response({**explanation, "labels": self.runtime.labels, "teacher": teacher})

    async def _teacher_prediction(self, text: str) -> dict[str, Any] | None:
        """The teacher's prediction; None if it fails or is too slow, as the explanation is useful without it."""
        if self.teacher is None:
            return None
        try:
            with self._teacher_thread.limit:
                return await self._teacher_thread.run(functools.partial(_timed_prediction, self.teacher, text))
        except Exception as error:
            log.warning("the teacher did not answer: %s", error)
            return None

    async def label_file(
        self, request: Request, name: str, text_column: str = "", probabilities: bool = False
    ) -> Response:
        """The rows of a file with their labels; rows that cannot be read are left out.

        The request's body is the file. The ending of its name decides the format: csv, tsv, jsonl, or txt with one text
        per line. The headers X-Rows and X-Bad-Rows of the response count the rows.
        """
        label = functools.partial(label_stream, self.runtime, text_column=text_column, probabilities=probabilities)
        max_bytes, seconds = FILE_FACTOR * self.limits.most_bytes, FILE_FACTOR * self.limits.wait_s
        # After a timeout the buffer is closed, which ends the thread's work at its next row.
        with self._file_thread.limit, io.BytesIO() as labelled:
            source = io.BytesIO(await read_body(request, max_bytes, seconds))
            counts = await self._file_thread.run(functools.partial(label, source, labelled, name))
            content = labelled.getvalue()
        request.scope[TEXTS_KEY] = counts.rows
        return Response(content, headers=_file_headers(name, counts), media_type="application/octet-stream")

    async def health(self) -> Response:
        """Whether the process is alive."""
        return json_response({"status": "alive"})

    async def ready(self) -> Response:
        """Whether the service answers requests, and with which model; 503 while it starts or stops."""
        content = {
            "status": self.status,
            "model": self.model,
            "version": distill.__version__,
            "labels": self.runtime.labels,
            "teacher": self.teacher is not None,
        }
        return json_response(content, 200 if self.status == "ready" else 503)

    async def prometheus(self) -> Response:
        """Metrics in Prometheus's text format."""
        return Response(self.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _by_label(labels: Sequence[str], row: list[float]) -> dict[str, float]:
    return {label: round(value, DIGITS) for label, value in zip(labels, row, strict=True)}


def _timed_prediction(classifier: Classifier, text: str) -> dict[str, Any]:
    """Probabilities by label, and milliseconds; a teacher that is loaded on first use is loaded before timing."""
    labels = classifier.labels
    started = time.perf_counter()
    row = classifier.predict_proba([text])[0].tolist()
    return {"probabilities": _by_label(labels, row), "ms": round(1000 * (time.perf_counter() - started), 3)}


def _explain(runtime: Runtime, text: str) -> dict[str, Any]:
    student = _timed_prediction(runtime, text)
    words = [{"word": word, "weight": round(weight, DIGITS)} for word, weight in word_weights(runtime, text)]
    label = max(student["probabilities"], key=student["probabilities"].get)
    return {"label": label, "student": student, "words": words}


def _file_headers(name: str, counts: Counts) -> dict[str, str]:
    path = PurePath(name)
    download_name = quote(f"{path.stem}.labelled{path.suffix}", safe="")
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{download_name}",
        "X-Rows": str(counts.rows),
        "X-Bad-Rows": str(counts.bad),
    }
