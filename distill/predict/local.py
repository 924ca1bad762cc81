"""``--engine local``: label the rows of files with a bundle, in threads of this process.

The main thread reads and writes in order; other threads predict, and the kernels release the GIL. Only a few chunks are
in flight at a time, so memory does not grow with the input.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from distill.config import Settings
from distill.data.formats import open_file, open_lines
from distill.data.formats.labelling import Chunk, OutputSpec, Position, RowFile
from distill.errors import UserError
from distill.predict.checkpoint import Counts, LabelledChunk, Parts, bad_row_lines
from distill.predict.plan import FileJob
from distill.predict.sources import InputState, load_student
from distill.predict.teacher import find_teacher
from distill.progress import log, progress_bar
from distill.runtime.label_sets import SEPARATOR
from distill.runtime.packing import text_size
from distill.runtime.tasks import names_of_tasks, tasks_in
from distill.runtime.unsure import Classifier, thresholds_of


class Labeller:
    """A student, with --cascade its teacher, and the threads that run them; ``counts`` is what they have labelled.

    Raises:
        UserError: the folder is not a bundle, or it is damaged; the teacher of --cascade cannot be used.
    """

    def __init__(self, bundle: Path, settings: Settings) -> None:
        self.counts = Counts()
        student, fingerprint = load_student(bundle)
        self._classifier: Classifier = student
        self._threads, self._strict = settings.run.threads or os.cpu_count() or 1, settings.predict.strict
        self._made_from: dict[str, object] = {"bundle": fingerprint, "cascade": None}
        decisions = thresholds_of(student), tasks_in(student)
        if settings.unsure.cascade and (teacher := find_teacher(settings, student.labels, *decisions)):
            below = settings.unsure.cascade_limit(names_of_tasks(student))
            self._classifier = teacher.cascade(student, below)
            self._made_from["cascade"] = {"below": below, "teacher": teacher.fingerprints}
        self._spec = output_spec(self._classifier, settings)

    def to_file(self, job: FileJob, output: Path) -> Parts:
        """Label one input, from where an earlier run stopped. The finished parts are left for the caller to remove.

        Raises:
            UserError: the input cannot be read, it changed meanwhile, or a row is bad and --strict is given.
        """
        with _open_input(job, self._spec) as (rows, state):
            identity = state.identity if state else {"beginning": rows.fingerprint}
            parts = Parts(output, job.name, {"input": identity, **self._provenance(job)})
            if not parts.are_joined:
                self._write_parts(parts, rows, state)
                parts.join(rows)
        return parts

    def _write_parts(self, parts: Parts, rows: RowFile, state: InputState | None) -> None:
        """Label the rest of an input. If the input changes meanwhile, the parts are removed."""
        results, has_more = self._results(rows, parts.position, parts.name), True
        while has_more:
            has_more = parts.write(results, rows)
            if state and state.has_changed:
                parts.remove()
                state.check()

    def to_stream(self, job: FileJob) -> None:
        """Label one input to standard output; bad rows are reported on standard error.

        Raises:
            UserError: the input cannot be read, it changed meanwhile, or a row is bad and --strict is given.
        """
        with _open_input(job, self._spec) as (rows, state):
            for piece in rows.header():
                sys.stdout.buffer.write(piece)
            for result in self._results(rows, None, job.name):
                sys.stdout.buffer.write(result.rows)
                sys.stderr.write(bad_row_lines(job.name, result.bad).decode())
            sys.stdout.buffer.flush()
            if state:
                state.check()

    def _provenance(self, job: FileJob) -> dict[str, object]:
        return {**self._made_from, "format": job.suffix, "settings": {**self._spec.record, "strict": self._strict}}

    def _results(self, rows: RowFile, start: Position | None, name: str) -> Iterator[LabelledChunk]:
        """Labelled chunks from ``start`` to the end, with a progress bar."""
        unit, scale = rows.unit
        with progress_bar(name, rows.size // scale, unit) as bar:
            bar.initial = bar.n = start.offset // scale if start else 0
            for result in self._in_order(rows, rows.chunks(start), name):
                self.counts += result.counts
                bar.set_postfix_str(f"{self.counts.rows:,} rows", refresh=False)
                bar.update(result.end.offset // scale - bar.n)
                yield result

    def _in_order(self, rows: RowFile, chunks: Iterator[Chunk], name: str) -> Iterator[LabelledChunk]:
        """Labelled chunks in input order; at most two per thread are in flight."""
        waiting: deque[Future[LabelledChunk]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            for chunk in chunks:
                if self._strict and chunk.bad:
                    raise _bad_row_error(chunk, name)
                waiting.append(pool.submit(self._label, rows, chunk))
                if len(waiting) > 2 * self._threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _label(self, rows: RowFile, chunk: Chunk) -> LabelledChunk:
        predictions = self._spec.predictions(self._classifier, chunk.texts)
        labelled, size = rows.add_labels(chunk, predictions), text_size(chunk.texts)
        return LabelledChunk(labelled, size, Counts.of(chunk, predictions), chunk.bad, chunk.end)


def output_spec(classifier: Classifier, settings: Settings) -> OutputSpec:
    """What is added to each row. One line says how several labels of a text are written.

    Raises:
        UserError: --top_k is larger than the number of labels, or --reject_label is one of them.
    """
    predict, unsure = settings.predict, settings.unsure
    spec = OutputSpec.of(
        classifier,
        probabilities=predict.probabilities,
        text_column=settings.data.text_column,
        escape_formulas=predict.escape_formulas,
        top_k=unsure.top_k,
        reject_below=unsure.rejection(names_of_tasks(classifier)),
        reject_label=unsure.reject_label,
        has_cascade=unsure.cascade,
    )
    for task in spec.by_task:
        if task.thresholds:
            cells = "a JSON list, since a label contains" if task.has_json_cells else "joined by"
            what = f"{task.task}: a text" if task.task else "a text"
            line = "%s may have any number of labels; in tables and plain text they are %s %s"
            log.info(line, what, cells, SEPARATOR)
    return spec


def _bad_row_error(chunk: Chunk, name: str) -> UserError:
    row = chunk.bad[0]
    return UserError(row.why, f"{name}:{row.line}", "repair or delete that row, or leave out --strict")


@contextlib.contextmanager
def _open_input(job: FileJob, spec: OutputSpec) -> Iterator[tuple[RowFile, InputState | None]]:
    """An open input and, unless it is standard input, its state.

    Raises:
        UserError: it has no column of texts, or another format or encoding than its name says.
    """
    if job.source is None:
        rows = open_lines(sys.stdin.buffer, job.name, job.suffix, spec.input_columns, spec, is_stream=True)
        log.info("%s: %s", job.name, rows.note)
        yield rows, None
        return
    state = InputState.of(job.source)
    with open_file(job.source, spec.input_columns, spec) as rows:
        log.info("%s: %s", job.name, rows.note)
        yield rows, state
