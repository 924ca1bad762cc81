"""``--engine local``: the rows of files through a bundle, in this machine's threads.

The main thread reads and writes in order; threads ask the student, whose kernels run outside Python's lock. A few
chunks are on their way at a time, so memory does not grow with the input.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from distill.config import Settings
from distill.errors import UserError
from distill.predict.checkpoint import Counts, Labelled, Parts, bad_lines
from distill.predict.inputs import opened
from distill.predict.plan import FileJob
from distill.predict.rows import Chunk, Format, Position, Wanted, ask
from distill.progress import progress_bar
from distill.runtime import Runtime
from distill.runtime.bundle import CARD
from distill.storage.fingerprints import fingerprint_file


class Labeller:
    """A student, the threads that ask it, and what is wanted of it; ``counts`` is what it labelled.

    Raises:
        UserError: the bundle is none, or damaged.
    """

    def __init__(self, bundle: Path, settings: Settings) -> None:
        self.counts = Counts()
        self._runtime = Runtime(bundle)
        self._wanted = Wanted(self._runtime.labels, settings.predict.probabilities, settings.data.text_column)
        self._threads, self._strict = settings.run.threads or os.cpu_count() or 1, settings.predict.strict
        self._bundle = fingerprint_file(bundle / CARD)  # the card holds the checksum of the rest

    def to_file(self, job: FileJob, output: Path) -> Parts:
        """Label one input, from where an earlier run stopped; the parts are still there, to be removed.

        Raises:
            UserError: the input cannot be read, or a row is bad and --strict is given.
        """
        with opened(job, self._wanted) as (form, source):
            parts = Parts(output, job.name, {"input": source, **self._made_from(job)})
            if not parts.are_joined:
                results = self._results(form, parts.position, job.name)
                while parts.write(results, form):
                    pass
                parts.join(form)
        return parts

    def to_stream(self, job: FileJob) -> None:
        """Label one input to standard output, and say on standard error which rows are bad."""
        with opened(job, self._wanted) as (form, _):
            for piece in form.head():
                sys.stdout.buffer.write(piece)
            for result in self._results(form, None, job.name):
                sys.stdout.buffer.write(result.rows)
                sys.stderr.write(bad_lines(job.name, result.bad).decode())
            sys.stdout.buffer.flush()

    def _made_from(self, job: FileJob) -> dict[str, object]:
        wanted = self._wanted
        settings = {"text_column": wanted.text_column, "probabilities": wanted.probabilities, "strict": self._strict}
        return {"bundle": self._bundle, "format": job.suffix, "settings": settings}

    def _results(self, form: Format, start: Position | None, name: str) -> Iterator[Labelled]:
        """What is left of an input, labelled, behind a progress bar."""
        unit, scale = form.unit
        with progress_bar(name, form.size // scale, unit) as shown:
            shown.initial = shown.n = start.offset // scale if start else 0
            for result in self._in_order(form, form.chunks(start), name):
                self.counts += result.counts
                shown.set_postfix_str(f"{self.counts.rows:,} rows", refresh=False)
                shown.update(result.end.offset // scale - shown.n)
                yield result

    def _in_order(self, form: Format, chunks: Iterator[Chunk], name: str) -> Iterator[Labelled]:
        """Chunks with their answers, in their order; two for every thread are on their way."""
        waiting: deque[Future[Labelled]] = deque()
        with ThreadPoolExecutor(self._threads) as pool:
            for chunk in chunks:
                if self._strict and chunk.bad:
                    raise _strict(chunk, name)
                waiting.append(pool.submit(self._labelled, form, chunk))
                if len(waiting) > 2 * self._threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _labelled(self, form: Format, chunk: Chunk) -> Labelled:
        rows = form.labelled(chunk, ask(self._runtime, chunk.texts))
        return Labelled(rows, sum(map(len, chunk.texts)), Counts(len(chunk.rows), len(chunk.bad)), chunk.bad, chunk.end)


def _strict(chunk: Chunk, name: str) -> UserError:
    bad = chunk.bad[0]
    return UserError(bad.why, f"{name}:{bad.line}", "repair or delete that row, or leave out --strict")
