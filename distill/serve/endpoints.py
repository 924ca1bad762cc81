"""The endpoints of the service, one method each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from fastapi import FastAPI, Query
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

import distill
from distill.config import ServeSettings, UnsureSettings
from distill.data.formats.labelling import OutputSpec
from distill.errors import UserError
from distill.predict.checkpoint import Counts
from distill.predict.in_memory import label_stream
from distill.progress import log
from distill.runtime import Runtime
from distill.runtime.cascade import Cascade
from distill.runtime.label_sets import certainty, exceeding, names_of
from distill.runtime.tasks import ByTeacher, Task, heads_of, names_of_tasks, outputs_of, tasks_in
from distill.runtime.unsure import Classifier, thresholds_of
from distill.serve.batching import Batcher, Rows, WorkerThread
from distill.serve.explain import word_weights
from distill.serve.limits import (
    Bodies,
    Body,
    ConcurrencyLimit,
    Deadline,
    RefusedError,
    json_bytes,
    json_response,
    with_timeout,
)
from distill.serve.metrics import TEXTS_KEY, Metrics, Totals
from distill.serve.schemas import (
    REJECT_BELOW_MEANING,
    TOP_K_MEANING,
    ExplainRequest,
    PredictRequest,
    check_texts,
    parse_body,
)
from distill.serve.unsure import DIGITS, ServedCascade, Wanted, add_unsure, check_unsure, output_spec

MAX_WAITING_EXPLANATIONS = 8  # requests that may wait for an explanation, and for the teacher
MAX_WAITING_FILES = 4
FILE_FACTOR = 20  # a file may have this many times the bytes and the seconds of a request
MIN_BODY_BYTES = 2**26  # of all bodies together, however small --most_bytes is
WARM_UP_TEXT = "…"
MAX_INLINE_S = (
    200e-6  # seconds of a batch that is computed in the event loop; handing it to a thread takes about 100e-6
)


@dataclass(frozen=True, eq=False)
class ServedStudent:
    """A student that answers requests. A reload replaces it as a whole; requests in progress keep the old one."""

    runtime: Runtime
    model: str
    teachers: Mapping[str, Classifier]  # by the task's name; of a student without tasks, one without a name
    batcher: Batcher
    cascade: ServedCascade | None
    _running: set[asyncio.Future[None]] = field(default_factory=set, init=False)  # a future per call of answer

    @functools.cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The student's tasks; of a student without tasks, a single one without a name."""
        return heads_of(self.runtime)

    @property
    def has_tasks(self) -> bool:
        """Whether answers are given by the name of the task."""
        return bool(self.tasks[0].name)

    @property
    def classifier(self) -> Classifier:
        """The student, or its cascade with its teachers."""
        return self.runtime if self.cascade is None else self.cascade.cascade

    async def answer(self, texts: Sequence[str]) -> tuple[Rows, ByTeacher | None]:
        """Probabilities (texts, outputs); in a cascade, which texts a teacher answered (texts, tasks)."""
        running = asyncio.get_running_loop().create_future()
        self._running.add(running)
        try:
            rows = await self.batcher(texts)
            return (rows, None) if self.cascade is None else await self.cascade.answer(texts, rows)
        finally:
            self._running.remove(running)
            running.set_result(None)

    @property
    def batchers(self) -> list[Batcher]:
        """Those of the student and of its teachers in a cascade."""
        return [self.batcher] if self.cascade is None else [self.batcher, *self.cascade.batchers]

    async def finish(self) -> None:
        """Answer the pending requests, then end the threads."""
        while self._running:  # in a cascade, they go from one batcher to the next, which may be idle until then
            await asyncio.wait(self._running)
        for batcher in self.batchers:
            await batcher.finish()

    def close(self) -> None:
        """Refuse the pending requests, and end the threads."""
        for batcher in self.batchers:
            batcher.close()


@dataclass(slots=True, eq=False)
class _Asked:
    """What a request to /predict asks for, and the student that answers it."""

    body: PredictRequest
    texts: list[str]
    student: ServedStudent
    spec: OutputSpec | None  # what is added to label and probability; None: nothing


class Endpoints:
    """The state of the service and its endpoints.

    Args:
        runtime: the student.
        limits: limits on requests.
        teacher: predicts next to the student in /explain, and labels the unsure texts of a cascade, if there is one.
            Of a student of several tasks, a dictionary of teachers by the task's name.
        model: name of the student.
        load: loads the student and its name again, for a reload.
        unsure: what is done with texts of which the student is not sure; requests may choose otherwise.
        totals: the metrics of all workers; None: this process is the only one.
        escape_formulas: whether no cell of a labelled table for spreadsheets is a formula.

    Attributes:
        reload_everywhere: loads the bundle again, in all workers; raises if it cannot be used.
        has_terminal: whether the service was started from a terminal.
        reload_s: seconds that loading the bundle again may take.

    Raises:
        UserError: ``unsure`` does not fit the student's labels.
    """

    def __init__(
        self,
        runtime: Runtime,
        limits: ServeSettings,
        teacher: Classifier | Mapping[str, Classifier] | None,
        model: str,
        *,
        load: Callable[[], tuple[Runtime, str]] | None = None,
        unsure: UnsureSettings | None = None,
        totals: Totals | None = None,
        escape_formulas: bool = True,
    ) -> None:
        self.limits, self.unsure, self.status = limits, unsure or UnsureSettings(), "starting"
        self.escape_formulas = escape_formulas
        self._has_plain_answers = self.unsure == UnsureSettings(reject_label=self.unsure.reject_label)
        self._teachers: Mapping[str, Classifier] = (
            teacher if isinstance(teacher, Mapping) else {"": teacher} if teacher else {}
        )
        self._load = load or (lambda: (runtime, model))
        self._waiting = ConcurrencyLimit(limits.most_waiting)
        self._bodies = Bodies(max(MIN_BODY_BYTES, MAX_WAITING_FILES * FILE_FACTOR * limits.most_bytes))
        self.metrics = Metrics(lambda: self._waiting.active, lambda: self._bodies.count, limits.access_log, totals)
        self._teacher_thread = WorkerThread("teacher", MAX_WAITING_EXPLANATIONS, limits.wait_s)
        self._explain_thread = WorkerThread("explain", MAX_WAITING_EXPLANATIONS, limits.wait_s)
        self._file_thread = WorkerThread("files", MAX_WAITING_FILES, FILE_FACTOR * limits.wait_s)
        self._reload_thread = WorkerThread("reload", 1, FILE_FACTOR * limits.wait_s)
        self._tasks: set[asyncio.Task[None]] = set()  # the event loop itself does not keep them
        self.student = self._served(runtime, model, self._teachers)
        self._prepared: ServedStudent | None = None
        self._replaced: set[ServedStudent] = set()  # students that still have requests to answer
        self.reload_everywhere: Callable[[], Awaitable[None]] = self._reload_alone
        self.has_terminal = os.isatty(0)
        self.reload_s = FILE_FACTOR * limits.wait_s

    def _served(self, runtime: Runtime, model: str, teachers: Mapping[str, Classifier]) -> ServedStudent:
        check_unsure(self.unsure, runtime)
        cascade = None
        if self.unsure.cascade:
            named = {name: own for name, own in teachers.items() if name}
            teacher = named if tasks_in(runtime) else teachers.get("")
            if not teacher:
                raise UserError("--cascade needs a teacher", model, "--run FOLDER")
            below = self.unsure.cascade_limit(names_of_tasks(runtime))
            cascade = ServedCascade(Cascade(runtime, teacher, below), self._teacher_thread)
        batcher = Batcher(outputs_of(runtime), self.metrics.count_batch, max_inline_s=MAX_INLINE_S)
        return ServedStudent(runtime, model, teachers, batcher, cascade)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Start the background work before the first request, and end it after the last."""
        for teacher in self._teachers.values():  # load it now, and let it predict a first text, which takes longest
            self._teacher_thread.start(functools.partial(_timed_prediction, teacher, WARM_UP_TEXT))
        self.status = "ready"
        summary = self.metrics.summary
        summaries = asyncio.create_task(summary.log_every_minute()) if summary else None
        yield
        self.status = "stopping"
        threads = (self._teacher_thread, self._explain_thread, self._file_thread, self._reload_thread)
        for student in (self.student, *self._replaced):
            student.close()
        if summary and summaries:
            summaries.cancel()
            summary.log()
        for worker in threads:
            worker.close()

    async def predict(self, request: Request) -> Response:
        """The label of one text, or of several in order."""
        with Body(self._bodies) as content:
            raw = await content.read(request, self.limits.most_bytes, self.limits.wait_s)
            asked = self._asked(raw)
            with self._waiting:
                rows, by_teacher = await with_timeout(asked.student.answer(asked.texts), self.limits.wait_s)
        request.scope[TEXTS_KEY] = len(asked.texts)
        return Response(self._predictions(asked, rows, by_teacher), media_type="application/json")

    def predict_soon(self, raw: bytes, finish: Callable[[bytes | BaseException, int], None]) -> None:
        """As :meth:`predict` with a body that is complete, but without a task; there must be no cascade.

        Args:
            raw: the body.
            finish: called later, with the response's body and the number of texts, or with the error and 0.

        Raises:
            RefusedError: as :meth:`predict`; ``finish`` is then not called.
        """
        asked = self._asked(raw)
        self._waiting.enter()
        self._bodies.enter()

        def answer(outcome: Rows | Exception) -> None:
            self._waiting.leave()
            self._bodies.leave()
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                content = self._predictions(asked, outcome, None)
            except Exception as error:
                finish(error, 0)
            else:
                finish(content, len(asked.texts))

        asked.student.batcher.submit(asked.texts, answer, self.limits.wait_s)

    def _asked(self, raw: bytes) -> _Asked:
        """What the body of a request to /predict asks for.

        Raises:
            RefusedError: 422.
        """
        body, student = parse_body(PredictRequest, raw), self.student
        return _Asked(body, body.checked_texts(self.limits), student, self._spec(student, body))

    def _predictions(self, asked: _Asked, rows: Rows, by_teacher: ByTeacher | None) -> bytes:
        """The body of the response of /predict."""
        tasks, has_tasks = asked.student.tasks, asked.student.has_tasks
        by_task = [
            _answers(task, rows[:, task.columns] if has_tasks else rows, asked.body.probabilities) for task in tasks
        ]
        if asked.spec is not None:
            predictions = asked.spec.decided(rows, by_teacher)
            for own, part, spec in zip(by_task, predictions.by_task, asked.spec.by_task, strict=True):
                add_unsure(own, part, spec)
            self.metrics.count_unsure(predictions.rejected, predictions.from_teacher)
        answers = by_task[0]
        if has_tasks:
            names = [task.name for task in tasks]
            answers = [{"tasks": dict(zip(names, row, strict=True))} for row in zip(*by_task, strict=True)]
        return json_bytes(answers[0] if asked.body.is_single else {"predictions": answers})

    def _spec(self, student: ServedStudent, body: PredictRequest) -> OutputSpec | None:
        """What is added to label and probability; None: nothing.

        Raises:
            RefusedError: 422, there are fewer labels than ``top_k``.
        """
        if self._has_plain_answers and body.top_k is None and body.reject_below is None:
            return None
        wanted = Wanted(body.probabilities, top_k=body.top_k, reject_below=body.reject_below)
        try:
            return output_spec(student.classifier, wanted, self.unsure)
        except UserError as error:
            raise RefusedError(422, f"{error.where}: {error.what}", error.hint) from None

    async def explain(self, request: Request) -> Response:
        """The predictions of student and teacher, and the influence of each word on the student's."""
        with Body(self._bodies) as content:
            raw = await content.read(request, self.limits.most_bytes, self.limits.wait_s)
            [text] = check_texts([parse_body(ExplainRequest, raw).text], self.limits)
            with self._explain_thread.limit:
                student = self.student
                found = await self._explain_thread.run(functools.partial(_explain, student, text))
                by_teacher = [  # later, not to slow the student
                    await self._teacher_prediction(student.teachers.get(task.name), text) for task, _ in found
                ]
        by_task = {
            task.name: {**own, "labels": task.labels, "teacher": teacher}
            for (task, own), teacher in zip(found, by_teacher, strict=True)
        }
        return json_response({"tasks": by_task} if student.has_tasks else by_task[""])

    async def _teacher_prediction(self, teacher: Classifier | None, text: str) -> dict[str, Any] | None:
        """The teacher's prediction; None if it fails or is too slow, as the explanation is useful without it."""
        if teacher is None:
            return None
        try:
            with self._teacher_thread.limit:
                return await self._teacher_thread.run(lambda deadline: _timed_prediction(teacher, text))
        except Exception as error:
            log.warning("the teacher did not answer: %s", type(error).__name__)  # a message could repeat the text
            return None

    async def label_file(
        self,
        request: Request,
        name: str,
        text_column: str = "",
        probabilities: bool = False,
        *,
        top_k: Annotated[int | None, Query(ge=1, description=TOP_K_MEANING)] = None,
        reject_below: Annotated[float | None, Query(ge=0, le=1, description=REJECT_BELOW_MEANING)] = None,
    ) -> Response:
        """The rows of a file with their labels; rows that cannot be read are left out.

        The request's body is the file: csv, tsv, json, jsonl or txt. Its content decides the format; where it leaves a
        choice, the ending of its name does. The headers X-Rows, X-Bad-Rows and X-Rejected-Rows of the response count
        the rows.
        """
        student = self.student
        wanted = Wanted(probabilities, text_column, top_k, reject_below, self.escape_formulas)
        spec = output_spec(student.classifier, wanted, self.unsure)
        max_bytes, seconds = FILE_FACTOR * self.limits.most_bytes, FILE_FACTOR * self.limits.wait_s
        with Body(self._bodies) as content, io.BytesIO() as labelled:
            source = io.BytesIO(await content.read(request, max_bytes, seconds))

            def label(deadline: Deadline) -> Counts:
                classifier = student.cascade.for_file(deadline) if student.cascade else student.runtime
                return label_stream(classifier, source, labelled, name, spec, check=deadline.check)

            with self._file_thread.limit:
                counts = await self._file_thread.run(label)
            labelled_content = labelled.getvalue()
        request.scope[TEXTS_KEY] = counts.rows
        self.metrics.count_unsure(counts.rejected, counts.by_teacher)
        headers = _file_headers(name, counts) | ({"X-Rejected-Rows": str(counts.rejected)} if spec.reject_below else {})
        return Response(labelled_content, headers=headers, media_type="application/octet-stream")

    async def reload(self) -> Response:
        """Load the bundle again; requests in progress keep the old student."""
        await self.reload_everywhere()
        return await self.ready()

    async def _reload_alone(self) -> None:
        """Reload in the only process of the service."""
        if self._reload_thread.limit.active:
            raise self.reload_is_busy()
        try:
            await self.prepare()
        except Exception as error:
            self.log_reload(error)
            raise
        self.switch()
        self.log_reload()

    def reload_is_busy(self) -> RefusedError:
        """The refusal of a second reload."""
        return RefusedError(409, "the bundle is being loaded already", "try again when that is done")

    def log_reload(self, error: Exception | None = None) -> None:
        """Log how a reload has ended."""
        student = self.student
        if error is not None:
            log.warning("the bundle was not loaded again, and the old one stays in use: %s", error)
        else:
            log.info("the bundle was loaded again: %s; labels: %s", student.model, ", ".join(student.runtime.labels))

    @property
    def has_lost_terminal(self) -> bool:
        """Whether the terminal that the service was started from was closed."""
        return self.has_terminal and not os.isatty(0)

    async def prepare(self) -> None:
        """Load the bundle again and check it while requests are answered; :meth:`switch` puts it into use.

        Raises:
            UserError: the bundle cannot be used.
            RefusedError: 503, it took too long.
        """
        with self._reload_thread.limit:
            self._prepared = await self._reload_thread.run(lambda deadline: self.load_again())

    def switch(self) -> None:
        """Answer new requests with the student that was prepared."""
        if self._prepared is not None:
            replaced, self.student, self._prepared = self.student, self._prepared, None
            self._keep(self._retire(replaced))

    async def _retire(self, replaced: ServedStudent) -> None:
        self._replaced.add(replaced)
        await replaced.finish()
        self._replaced.discard(replaced)

    def discard(self) -> None:
        """Forget the student that was prepared, if it was not put into use."""
        self._prepared = None

    def start_reload(self) -> None:
        """Reload without waiting for the result; the log has it."""

        async def reload() -> None:
            with contextlib.suppress(Exception):
                await self.reload()

        self._keep(reload())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` while requests are answered."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def load_again(self) -> ServedStudent:
        """Load the bundle, check it with a first prediction, and drop the teacher if it has other labels."""
        try:
            runtime, model = self._load()
            rows = outputs_of(runtime)([WARM_UP_TEXT])
        except UserError:
            raise
        except Exception as error:
            raise unusable_bundle(error, self.student.model) from error
        if rows.shape != (1, len(runtime.labels)) or not np.isfinite(rows).all():
            raise UserError("the student of this bundle does not return probabilities", model, "export it again")
        teachers = self._teachers
        if not _have_same_labels(teachers, runtime):
            if self.unsure.cascade:
                hint = "start the service again, with --run of that bundle's run"
                raise UserError("the bundle has other labels than the teacher of --cascade", model, hint)
            log.warning("the bundle has other labels than the teacher, which is not shown any more")
            teachers = {}
        return self._served(runtime, model, teachers)

    async def examples(self) -> Response:
        """The texts that are stored in the bundle as examples. Unlike the answer of /ready, they need the token."""
        return json_response({"examples": self.student.runtime.examples})

    async def health(self) -> Response:
        """Whether the process is alive."""
        return json_response({"status": "alive"})

    async def ready(self) -> Response:
        """Whether the service answers requests, and with which model; 503 while it starts or stops."""
        content: dict[str, Any] = {
            "status": self.status,
            "model": self.student.model,
            "version": distill.__version__,
            "labels": self.student.runtime.labels,
            "teacher": bool(self.student.teachers),
        }
        if thresholds := thresholds_of(self.student.runtime):
            content["thresholds"] = thresholds
        if self.student.has_tasks:
            content["tasks"] = [task.card for task in self.student.tasks]
        return json_response(content, 200 if self.status == "ready" else 503)

    async def prometheus(self) -> Response:
        """Metrics in Prometheus's text format."""
        return Response(self.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def unusable_bundle(error: Exception, model: str = "") -> UserError:
    """The error of a bundle that could not be loaded because of ``error``."""
    return UserError(f"the bundle cannot be used: {error!r}", model, "export it again")


def _have_same_labels(teachers: Mapping[str, Classifier], student: Classifier) -> bool:
    """Whether each teacher has the labels of its task, and both give a text one of them or both any number."""
    tasks = {task.name: (set(task.labels), bool(task.thresholds)) for task in heads_of(student)}
    return all(tasks.get(name) == (set(own.labels), bool(thresholds_of(own))) for name, own in teachers.items())


def _answers(task: Task, rows: Rows, with_probabilities: bool) -> list[dict[str, Any]]:
    """A task's predictions from the probabilities of its labels (texts, labels)."""
    if task.thresholds:
        return _predictions_of_any_labels(task.labels, task.thresholds, rows, with_probabilities)
    return [_prediction(task.labels, row, with_probabilities) for row in rows.tolist()]


def _prediction(labels: Sequence[str], row: list[float], with_probabilities: bool) -> dict[str, Any]:
    highest = max(row)
    prediction: dict[str, Any] = {"label": labels[row.index(highest)], "probability": round(highest, DIGITS)}
    return prediction | {"probabilities": _by_label(labels, row)} if with_probabilities else prediction


def _predictions_of_any_labels(
    labels: Sequence[str], thresholds: Sequence[float], rows: Rows, with_probabilities: bool
) -> list[dict[str, Any]]:
    has_class = exceeding(rows, thresholds)
    pairs = zip(names_of(has_class, labels), certainty(rows, has_class).tolist(), strict=True)
    answers: list[dict[str, Any]] = [{"labels": names, "probability": round(value, DIGITS)} for names, value in pairs]
    if with_probabilities:
        for answer, row in zip(answers, rows.tolist(), strict=True):
            answer["probabilities"] = _by_label(labels, row)
    return answers


def _by_label(labels: Sequence[str], row: list[float]) -> dict[str, float]:
    return {label: round(value, DIGITS) for label, value in zip(labels, row, strict=True)}


def _timed_prediction(classifier: Classifier, text: str, task: Task | None = None) -> dict[str, Any]:
    """Probabilities by label, and milliseconds; a teacher that is loaded on first use is loaded before timing.

    With thresholds also the labels that it gives the text. Of several tasks, only the predictions of one.
    """
    task, predict_proba = task or heads_of(classifier)[0], outputs_of(classifier)
    started = time.perf_counter()
    rows = predict_proba([text])
    ms = round(1000 * (time.perf_counter() - started), 3)
    rows = rows[:, task.columns]
    given = {"labels": names_of(exceeding(rows, task.thresholds), task.labels)[0]} if task.thresholds else {}
    return {"probabilities": _by_label(task.labels, rows[0].tolist()), "ms": ms, **given}


def _explain(student: ServedStudent, text: str, deadline: Deadline) -> list[tuple[Task, dict[str, Any]]]:
    return [(task, _explained(student.runtime, task, text, deadline)) for task in student.tasks]


def _explained(runtime: Runtime, task: Task, text: str, deadline: Deadline) -> dict[str, Any]:
    student = _timed_prediction(runtime, text, task)
    weights = word_weights(runtime, text, deadline.check, task.columns)
    words = [{"word": word, "weight": round(weight, DIGITS)} for word, weight in weights]
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
