"""Worker threads behind the event loop: one that classifies in batches, and others for slower work."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from distill.serve.limits import ConcurrencyLimit, Deadline, DeadlineError, log_bug, stopping, too_slow, with_timeout

Rows = NDArray[np.float32]  # (texts, classes)
Answer = Callable[[Rows | Exception], object]  # what is called with the rows of a request or its error
T = TypeVar("T")
THREADS = "serve"  # how the names of the service's threads begin
BATCH_SIZE = 128  # texts: about 10 ms of work, which is how long a new request may have to wait
TEXTS_PER_TURN = 32  # texts of one request in a batch, before the next request gets its turn
TEXT_OVERHEAD = 16  # characters that take as long as what every text takes, however short it is
RATE_WEIGHT = 0.1  # of the latest batch in the mean time per character


class PendingRequest:
    """The texts of one request, and the rows computed for them so far.

    Args:
        texts: of the request.
        answer: called once, with the rows of all texts or with an error, in the event loop.

    Attributes:
        timer: fails the request when it is too late; None: it may take any time.
    """

    __slots__ = ("answer", "is_over", "rows", "taken", "texts", "timer")

    def __init__(self, texts: Sequence[str], answer: Answer) -> None:
        self.texts, self.answer = texts, answer
        self.timer: asyncio.TimerHandle | None = None
        self.taken = 0  # texts that were put into a batch
        self.is_over = False  # answered, or nobody waits for it any more
        self.rows: list[Rows] = []

    def take(self, limit: int) -> Sequence[str]:
        """The next texts, at most ``limit``."""
        if not self.taken and len(self.texts) <= limit:
            self.taken = len(self.texts)
            return self.texts
        part = self.texts[self.taken : self.taken + limit]
        self.taken += len(part)
        return part

    def add(self, rows: Rows) -> None:
        """Add the rows of the next texts."""
        self.rows.append(rows)
        if sum(map(len, self.rows)) == len(self.texts):
            self.end(self.rows[0] if len(self.rows) == 1 else np.concatenate(self.rows))

    def end(self, outcome: Rows | Exception) -> None:
        """Answer the request, unless that was done before.

        An error of ``answer`` is logged: it must not keep the other requests of the batch from their answers.
        """
        if not self.is_over:
            self.cancel()
            try:
                self.answer(outcome)
            except Exception as error:
                log_bug(error)

    def cancel(self) -> None:
        """Nobody waits for the request any more."""
        self.is_over = True
        if self.timer is not None:
            self.timer.cancel()


_Part = tuple[PendingRequest, Sequence[str]]  # a request, and those of its texts that are in a batch


class Batcher:
    """Classify the texts of waiting requests together; while one batch is computed, the next one gathers.

    A batch never waits to fill up: an idle student starts at once, with all requests that one turn of the event loop
    has read. A request with many texts takes turns with the others, :data:`TEXTS_PER_TURN` texts at a time.

    A batch that takes no longer than ``max_inline_s``, as far as the earlier ones tell, is computed in the event loop.
    Handing it to a thread and waiting for the global interpreter lock would take longer.

    Args:
        classify: texts to rows (texts, classes); called in a thread of its own, or in the event loop.
        on_batch: called with the size of every batch.
        name: name of the thread.
        max_inline_s: seconds for which the event loop may be busy with a batch; 0: all batches go to the thread.
    """

    def __init__(
        self,
        classify: Callable[[list[str]], Rows],
        on_batch: Callable[[int], object] = lambda size: None,
        name: str = "student",
        max_inline_s: float = 0.0,
    ) -> None:
        self._classify, self._on_batch, self._max_inline_s = classify, on_batch, max_inline_s
        self._pool = ThreadPoolExecutor(1, f"{THREADS}-{name}")
        self._pending: deque[PendingRequest] = deque()
        self._batch: list[_Part] = []  # that is being computed; never an argument of a callback, which asyncio logs
        self._is_working = self._is_closed = False
        self._when_idle: asyncio.Future[None] | None = None
        self._s_per_character = math.inf  # not known before the first batch

    async def __call__(self, texts: Sequence[str]) -> Rows:
        """The rows of a request's texts, in order; there must be at least one text."""
        result: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()

        def answer(outcome: Rows | Exception) -> None:
            if result.done():  # the task that waits for it was cancelled in this turn of the event loop
                return
            if isinstance(outcome, Exception):
                result.set_exception(outcome)
            else:
                result.set_result(outcome)

        request = self._add(PendingRequest(texts, answer))
        try:
            return await result
        finally:
            request.cancel()

    def submit(self, texts: Sequence[str], answer: Answer, timeout_s: float) -> None:
        """Let ``answer`` be called with the rows of the texts, in order, or with the error that took their place.

        This costs less than a task that waits. If it takes longer than ``timeout_s`` seconds, the error is a 503.
        """
        request = PendingRequest(texts, answer)
        request.timer = asyncio.get_running_loop().call_later(timeout_s, _end_late, request, timeout_s)
        self._add(request)

    def _add(self, request: PendingRequest) -> PendingRequest:
        if self._is_closed:
            request.end(stopping())
            return request
        self._pending.append(request)
        if not self._is_working:  # starts after this turn of the event loop, so that it sees all new requests
            self._is_working = True
            asyncio.get_running_loop().call_soon(self._work)
        return request

    def _work(self) -> None:
        """Compute the next batch, if there is one."""
        self._is_working = False  # also after an error, or no later request would be answered
        if batch := self._next_batch():
            self._is_working = True
            self._start(batch)
        elif self._when_idle is not None and not self._when_idle.done():
            self._when_idle.set_result(None)

    def _start(self, batch: list[_Part]) -> None:
        """Compute a batch here or in the thread; an error is that of its requests and of no others."""
        loop, is_in_thread = asyncio.get_running_loop(), False
        texts = [text for _, part in batch for text in part]
        size = sum(map(len, texts)) + TEXT_OVERHEAD * len(texts)
        self._batch = batch
        try:
            self._on_batch(len(texts))
            if size * self._s_per_character > self._max_inline_s:
                loop.run_in_executor(self._pool, self._timed, texts, size).add_done_callback(self._finish_batch)
                is_in_thread = True
            else:
                _distribute(self._timed(texts, size), batch)
        except Exception as error:
            _fail(batch, error)
        finally:
            if not is_in_thread:
                self._batch = []
                loop.call_soon(self._work)

    def _timed(self, texts: list[str], size: int) -> Rows:
        """Classify, and learn how long that takes."""
        started = time.perf_counter()
        rows = self._classify(texts)
        rate, known = (time.perf_counter() - started) / size, self._s_per_character
        self._s_per_character = rate if known == math.inf else known + RATE_WEIGHT * (rate - known)
        return rows

    def _finish_batch(self, rows: asyncio.Future[Rows]) -> None:
        """Answer the requests of the batch that the thread has computed."""
        batch, self._batch = self._batch, []
        try:
            _distribute(rows.result(), batch)
        except (Exception, asyncio.CancelledError) as error:
            _fail(batch, error if isinstance(error, Exception) else RuntimeError("the thread has ended"))
        finally:
            self._work()

    def _next_batch(self) -> list[_Part]:
        """The next batch: a part of every pending request in turn, until it is full; cancelled ones are dropped."""
        batch: list[_Part] = []
        free = BATCH_SIZE
        while self._pending and free:
            request = self._pending.popleft()
            if request.is_over:
                continue
            part = request.take(min(TEXTS_PER_TURN, free))
            batch.append((request, part))
            free -= len(part)
            if request.taken < len(request.texts):
                self._pending.append(request)
        return batch

    async def finish(self) -> None:
        """Answer the pending requests, then end the thread."""
        if self._is_working:
            self._when_idle = asyncio.get_running_loop().create_future()
            await self._when_idle
        self.close()

    def close(self) -> None:
        """Refuse the requests that are not answered yet, and end the thread after its current batch."""
        self._is_closed = True
        while self._pending:
            self._pending.popleft().end(stopping())
        _fail(self._batch, stopping())
        self._pool.shutdown(wait=False, cancel_futures=True)


def _end_late(request: PendingRequest, timeout_s: float) -> None:
    request.end(too_slow(timeout_s))


def _fail(batch: list[_Part], error: Exception) -> None:
    for request, _ in batch:
        request.end(error)


def _distribute(rows: Rows, batch: list[_Part]) -> None:
    if len(rows) != sum(len(part) for _, part in batch):
        raise ValueError("a model returned a wrong number of rows")
    start = 0
    for request, part in batch:
        if not request.is_over:
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
