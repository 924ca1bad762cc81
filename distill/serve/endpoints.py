"""The service's answers, one method an endpoint."""

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
from distill.serve.limits import ConcurrencyLimit, read_body, with_timeout, json_response
from distill.serve.metrics import TEXTS_KEY, Metrics
from distill.serve.schemas import PredictRequest, ExplainRequest, check_texts, parse_body

ASIDE = 8  # requests that may wait for the teacher, or for an explanation
FILES, OF_A_FILE = 4, 20  # files that may wait; a file may have this many times the bytes and the seconds of a request
DIGITS = 6
COUNTED = frozenset(("/", "/predict", "/explain", "/label_file", "/health", "/ready", "/metrics", "/docs"))


class Classifier(Protocol):
    """Runtime and teacher alike."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes."""
        ...

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``."""
        ...


class Endpoints:
    """What the service knows and does.

    Args:
        runtime: the student.
        limits: what is refused.
        teacher: who answers beside the student on the page, if anybody.
        model: the student's name.
    """

    def __init__(self, runtime: Runtime, limits: ServeSettings, teacher: Classifier | None, model: str) -> None:
        self.runtime, self.limits, self.teacher, self.model = runtime, limits, teacher, model
        self.status = "starting"
        self._places = ConcurrencyLimit(limits.most_waiting)
        self.metrics = Metrics(COUNTED, lambda: self._places.taken, limits.access_log)
        self._batcher = Batcher(runtime.predict_proba, self.metrics.saw_batch)
        self._teaching = WorkerThread("teacher", ASIDE, limits.wait_s)
        self._explaining = WorkerThread("explain", ASIDE, limits.wait_s)
        self._labelling = WorkerThread("files", FILES, OF_A_FILE * limits.wait_s)

    @contextlib.asynccontextmanager
    async def life(self, app: FastAPI) -> AsyncIterator[None]:
        """From the first request to the last."""
        if self.teacher is not None:  # it is read meanwhile, and answers its first text, which takes longest
            self._teaching.start(functools.partial(_side, self.teacher, "…"))
        self.status = "ready"
        minutes = asyncio.create_task(self.metrics.each_minute())
        yield
        self.status = "stopping"
        minutes.cancel()
        self.metrics.say()
        for worker in (self._batcher, self._teaching, self._explaining, self._labelling):
            worker.close()

    async def predict(self, request: Request) -> Response:
        """The label of one text or of many, in their order."""
        with self._places:
            question = parse_body(PredictRequest, await read_body(request, self.limits.most_bytes, self.limits.wait_s))
            texts = question.checked(self.limits)
            rows = await with_timeout(self._batcher(texts), self.limits.wait_s)
        request.scope[TEXTS_KEY] = len(texts)
        predictions = [self._prediction(row, question.probabilities) for row in rows.tolist()]
        return json_response(predictions[0] if question.one else {"predictions": predictions})

    def _prediction(self, row: list[float], every: bool) -> dict[str, Any]:
        highest = max(row)
        said: dict[str, Any] = {
            "label": self.runtime.labels[row.index(highest)],
            "probability": round(highest, DIGITS),
        }
        return said | {"probabilities": _named(self.runtime.labels, row)} if every else said

    async def explain(self, request: Request) -> Response:
        """Student and teacher side by side, and the words that drove the student."""
        with self._explaining.places:
            subject = parse_body(ExplainRequest, await read_body(request, self.limits.most_bytes, self.limits.wait_s))
            [text] = check_texts([subject.text], self.limits)
            said = await self._explaining.do(functools.partial(_student_says, self.runtime, text))
            teacher = await self._teacher_says(text)  # after the student: both at once would slow its clock
        return json_response({**said, "labels": self.runtime.labels, "teacher": teacher})

    async def _teacher_says(self, text: str) -> dict[str, Any] | None:
        """What the teacher says; None where it cannot: the page is of use without it."""
        if self.teacher is None:
            return None
        try:
            with self._teaching.places:
                return await self._teaching.do(functools.partial(_side, self.teacher, text))
        except Exception as error:
            log.warning("the teacher gave no answer: %s", error)
            return None

    async def label_file(
        self, request: Request, name: str, text_column: str = "", probabilities: bool = False
    ) -> Response:
        """A file's rows with their labels; bad rows are left out.

        The body is the file, as its name's ending says: csv, tsv, jsonl, or txt with a text a line. The headers X-Rows
        and X-Bad-Rows count rows.
        """
        ask = functools.partial(label_stream, self.runtime, text_column=text_column, probabilities=probabilities)
        most, seconds = OF_A_FILE * self.limits.most_bytes, OF_A_FILE * self.limits.wait_s
        with self._labelling.places, io.BytesIO() as labelled:  # closed too soon, it ends the thread at its next row
            source = io.BytesIO(await read_body(request, most, seconds))
            counts = await self._labelling.do(functools.partial(ask, source, labelled, name))
            content = labelled.getvalue()
        request.scope[TEXTS_KEY] = counts.rows
        return Response(content, headers=_download(name, counts), media_type="application/octet-stream")

    async def health(self) -> Response:
        """Whether the process lives."""
        return json_response({"status": "alive"})

    async def ready(self) -> Response:
        """Whether requests are answered, and by what; 503 while the service starts or stops."""
        said = {
            "status": self.status,
            "model": self.model,
            "version": distill.__version__,
            "labels": self.runtime.labels,
        }
        return json_response({**said, "teacher": self.teacher is not None}, 200 if self.status == "ready" else 503)

    async def count(self) -> Response:
        """Counts for Prometheus."""
        return Response(self.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _named(labels: Sequence[str], row: list[float]) -> dict[str, float]:
    return {label: round(value, DIGITS) for label, value in zip(labels, row, strict=True)}


def _side(classifier: Classifier, text: str) -> dict[str, Any]:
    """Probabilities and milliseconds; a model that is read when it is first asked is read before the clock starts."""
    labels = classifier.labels
    started = time.perf_counter()
    row = classifier.predict_proba([text])[0].tolist()
    return {"probabilities": _named(labels, row), "ms": round(1000 * (time.perf_counter() - started), 3)}


def _student_says(runtime: Runtime, text: str) -> dict[str, Any]:
    side = _side(runtime, text)
    words = [{"word": word, "weight": round(weight, DIGITS)} for word, weight in word_weights(runtime, text)]
    return {"label": max(side["probabilities"], key=side["probabilities"].get), "student": side, "words": words}


def _download(name: str, counts: Counts) -> dict[str, str]:
    path = PurePath(name)
    shown = quote(f"{path.stem}.labelled{path.suffix}", safe="")
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{shown}",
        "X-Rows": str(counts.rows),
        "X-Bad-Rows": str(counts.bad),
    }
