"""Worker threads behind the event loop: one that classifies in batches, and others for slower work."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from distill.serve.limits import ConcurrencyLimit, Deadline, DeadlineError, too_slow, with_timeout

Rows = NDArray[np.float32]  # (texts, classes)
T = TypeVar("T")
THREADS = "serve"  # how the names of the service's threads begin
BATCH_SIZE = 128  # texts: about 10 ms of work, which is how long a new request may have to wait
TEXTS_PER_TURN = 32  # texts of one request in a batch, before the next request gets its turn


@dataclass(eq=False)
class _PendingRequest:
    """The texts of one request, and the rows computed for them so far."""

    texts: Sequence[str]
    result: asyncio.Future[Rows]
    taken: int = 0  # texts that were put into a batch
    rows: list[Rows] = field(default_factory=list)

    def take(self, limit: int) -> Sequence[str]:
        part = self.texts[self.taken : self.taken + limit]
        self.taken += len(part)
        return part

    def add(self, rows: Rows) -> None:
        self.rows.append(rows)
        if sum(map(len, self.rows)) == len(self.texts) and not self.result.done():
            self.result.set_result(self.rows[0] if len(self.rows) == 1 else np.concatenate(self.rows))

    def fail(self, error: BaseException) -> None:
        if not self.result.done():
            self.result.set_exception(error)


_Part = tuple[_PendingRequest, Sequence[str]]  # a request, and those of its texts that are in a batch


class Batcher:
    """Classify the texts of waiting requests together; while one batch is computed, the next one gathers.

    A batch never waits to fill up: an idle student starts at once. A request with many texts takes turns with the
    others, :data:`TEXTS_PER_TURN` texts at a time.

    Args:
        classify: texts to rows (texts, classes); called in a thread of its own.
        on_batch: called with the size of every batch.
        name: name of the thread.
    """

    def __init__(
        self,
        classify: Callable[[list[str]], Rows],
        on_batch: Callable[[int], object] = lambda size: None,
        name: str = "student",
    ) -> None:
        self._classify, self._on_batch = classify, on_batch
        self._pool = ThreadPoolExecutor(1, f"{THREADS}-{name}")
        self._pending: deque[_PendingRequest] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, texts: Sequence[str]) -> Rows:
        """The rows of a request's texts, in order; there must be at least one text."""
        request = _PendingRequest(texts, asyncio.get_running_loop().create_future())
        self._pending.append(request)
        if self._task is None:  # the task starts after this iteration of the event loop, so it sees all new requests
            self._task = asyncio.create_task(self._work())
        return await request.result

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                await self._answer(batch)
        finally:  # also after an error, or no later request would be answered
            self._task = None

    async def _answer(self, batch: list[_Part]) -> None:
        """Compute a batch; an error is that of its requests and of no others."""
        texts = [text for _, part in batch for text in part]
        try:
            self._on_batch(len(texts))
            rows = await asyncio.get_running_loop().run_in_executor(self._pool, self._classify, texts)
            _distribute(rows, batch)
        except Exception as error:
            for request, _ in batch:
                request.fail(error)

    def _next_batch(self) -> list[_Part]:
        """The next batch: a part of every pending request in turn, until it is full; cancelled ones are dropped."""
        batch: list[_Part] = []
        free = BATCH_SIZE
        while self._pending and free:
            request = self._pending.popleft()
            if request.result.done():
                continue
            part = request.take(min(TEXTS_PER_TURN, free))
            batch.append((request, part))
            free -= len(part)
            if request.taken < len(request.texts):
                self._pending.append(request)
        return batch

    async def finish(self) -> None:
        """Answer the pending requests, then end the thread."""
        if self._task is not None:
            await asyncio.wait([self._task])
        self.close()

    def close(self) -> None:
        """End the thread after its current batch."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _distribute(rows: Rows, batch: list[_Part]) -> None:
    if len(rows) != sum(len(part) for _, part in batch):
        raise ValueError("a model returned a wrong number of rows")
    start = 0
    for request, part in batch:
        request.add(rows[start : start + len(part)])
        start += len(part)


class WorkerThread:
    """A thread for slower work, so that it does not delay the student.

    Args:
        name: name of the thread.
        max_waiting: how many requests may wait for it at a time; callers enter :attr:`limit` to be counted.
        timeout_s: seconds that a piece of work may take, including the wait for its turn.
    """

    def __init__(self, name: str, max_waiting: int, timeout_s: float) -> None:
        self._pool, self._timeout_s = ThreadPoolExecutor(1, f"{THREADS}-{name}"), timeout_s
        self.limit = ConcurrencyLimit(max_waiting)

    async def run(self, work: Callable[[Deadline], T]) -> T:
        """Run ``work`` in the thread and return its result.

        Its deadline passes when the time is over, and when nobody waits for the result any more.

        Raises:
            RefusedError: 503, it took too long.
        """
        deadline = Deadline(self._timeout_s)
        try:
            result = asyncio.get_running_loop().run_in_executor(self._pool, work, deadline)
            return await with_timeout(result, self._timeout_s)
        except DeadlineError:
            raise too_slow(self._timeout_s) from None
        finally:
            deadline.cancel()

    def call(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the thread after all that was queued before, and wait for its result in another thread."""
        return self._pool.submit(work).result()

    def start(self, work: Callable[[], object]) -> None:
        """Queue ``work`` without waiting for it; its result and exceptions are ignored."""
        self._pool.submit(work)

    def close(self) -> None:
        """End the thread after its current work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def wait_for_threads(end: float, others: Collection[threading.Thread] = ()) -> bool:
    """Wait for the service's threads until the time ``end`` (of ``time.monotonic``); return whether all have ended.

    ``others`` are not waited for: threads of another service in this process.
    """
    own = [thread for thread in threading.enumerate() if thread not in others]
    threads = [thread for thread in own if thread.name.startswith(f"{THREADS}-")]
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
