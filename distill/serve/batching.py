"""Threads behind the event loop: one for the student, which answers together what waits together, and slower ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from distill.serve.limits import ConcurrencyLimit, with_timeout

Rows = NDArray[np.float32]
T = TypeVar("T")
BATCH_SIZE = 128  # texts that are answered together: about 10 ms of work, which is what a new request may have to wait
TEXTS_PER_TURN = 32  # texts that one request gets into a batch before the next request has its turn


@dataclass(eq=False)
class _Job:
    """A request's texts, and the rows that were found for them so far."""

    texts: Sequence[str]
    answer: asyncio.Future[Rows]
    taken: int = 0
    rows: list[Rows] = field(default_factory=list)

    def take(self, most: int) -> Sequence[str]:
        part = self.texts[self.taken : self.taken + most]
        self.taken += len(part)
        return part

    def put(self, rows: Rows) -> None:
        self.rows.append(rows)
        if sum(map(len, self.rows)) == len(self.texts) and not self.answer.done():
            self.answer.set_result(self.rows[0] if len(self.rows) == 1 else np.concatenate(self.rows))

    def fail(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class Batcher:
    """Answers in one call what waits together; while it is being answered, the next requests gather.

    Nobody waits for a batch to fill: an idle student starts at once. A request of many texts gets its turns among the
    others, :data:`SHARE` texts at a time.

    Args:
        answer: texts to rows, shape (texts, classes); called in a thread of its own.
        seen: told the size of every batch.
    """

    def __init__(self, answer: Callable[[list[str]], Rows], seen: Callable[[int], object] = lambda size: None) -> None:
        self._answer, self._seen = answer, seen
        self._pool = ThreadPoolExecutor(1, "student")
        self._jobs: deque[_Job] = deque()
        self._working: asyncio.Task[None] | None = None

    async def __call__(self, texts: Sequence[str]) -> Rows:
        """Rows of a request's texts, in their order; at least one text."""
        job = _Job(texts, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        if self._working is None:  # it starts when this turn of the loop is over: all that arrived in it are one batch
            self._working = asyncio.create_task(self._work())
        return await job.answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while taken := self._take():
            texts = [text for _, part in taken for text in part]
            self._seen(len(texts))
            try:
                rows = await loop.run_in_executor(self._pool, self._answer, texts)
            except Exception as error:
                for job, _ in taken:
                    job.fail(error)
                continue
            _hand_out(rows, taken)
        self._working = None

    def _take(self) -> list[tuple[_Job, Sequence[str]]]:
        """The next batch: every job's share in turn, until it is full. Those whose caller left are forgotten."""
        taken, room = [], BATCH_SIZE
        while self._jobs and room:
            job = self._jobs.popleft()
            if job.answer.done():
                continue
            part = job.take(min(TEXTS_PER_TURN, room))
            taken.append((job, part))
            room -= len(part)
            if job.taken < len(job.texts):
                self._jobs.append(job)
        return taken

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _hand_out(rows: Rows, taken: list[tuple[_Job, Sequence[str]]]) -> None:
    place = 0
    for job, part in taken:
        job.put(rows[place : place + len(part)])
        place += len(part)


class WorkerThread:
    """A thread for slower work, so that it does not hold up the student.

    Args:
        name: the thread's.
        most: how many may wait for it at a time, for whoever asks to take one of ``places``.
        wait_s: seconds that work may take, its waiting included.
    """

    def __init__(self, name: str, most: int, wait_s: float) -> None:
        self._pool, self._wait_s = ThreadPoolExecutor(1, name), wait_s
        self.places = ConcurrencyLimit(most)

    async def do(self, work: Callable[[], T]) -> T:
        """What ``work`` returns."""
        return await with_timeout(asyncio.get_running_loop().run_in_executor(self._pool, work), self._wait_s)

    def start(self, work: Callable[[], object]) -> None:
        """Have ``work`` done before all that is asked later; nobody waits for it, and what it raises is forgotten."""
        self._pool.submit(work)

    def close(self) -> None:
        """End the thread after the work that it is at."""
        self._pool.shutdown(wait=False, cancel_futures=True)
