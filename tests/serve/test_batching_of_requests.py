"""Batching: waiting requests share batches and take turns, and each gets its own rows."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.serve.batching import BATCH_SIZE, TEXTS_PER_TURN, Batcher, Rows, WorkerThread
from distill.serve.limits import ConcurrencyLimit, Deadline, DeadlineError, RefusedError


def numbers(texts: list[str]) -> Rows:
    """Texts are numbers; the row of a text is its number."""
    return np.array([[float(text)] for text in texts], np.float32)


class Student:
    """Records the sizes of its batches; blocks until ``released`` is set."""

    def __init__(self, classify: Callable[[list[str]], Rows] = numbers) -> None:
        self.released, self.sizes, self._classify = threading.Event(), list[int](), classify

    def __call__(self, texts: list[str]) -> Rows:
        self.sizes.append(len(texts))
        assert self.released.wait(10)
        return self._classify(texts)


async def busy_batcher(student: Student) -> tuple[Batcher, asyncio.Task[Rows]]:
    """A batcher whose student computes a first request, "0", until the student is released; and that request."""
    batcher = Batcher(student)
    first = asyncio.create_task(batcher(["0"]))
    while not student.sizes:
        await asyncio.sleep(0.001)
    return batcher, first


@settings(max_examples=25)
@given(st.lists(st.integers(1, 3 * BATCH_SIZE), min_size=1, max_size=12))
def test_each_request_gets_its_own_rows(sizes: list[int]) -> None:
    ends = np.cumsum(sizes).tolist()
    requests = [[str(n) for n in range(end - size, end)] for size, end in zip(sizes, ends, strict=True)]
    batch_sizes: list[int] = []

    async def ask() -> list[Rows]:
        batcher = Batcher(numbers, batch_sizes.append)
        results = await asyncio.gather(*map(batcher, requests))
        batcher.close()
        return results

    for texts, rows in zip(requests, asyncio.run(ask()), strict=True):
        np.testing.assert_array_equal(rows, numbers(texts))
    assert sum(batch_sizes) == sum(sizes) and max(batch_sizes) <= BATCH_SIZE
    assert batch_sizes[:-1] == [BATCH_SIZE] * (len(batch_sizes) - 1)  # all arrived together: only the last has room


def test_only_small_batches_are_computed_in_the_event_loop() -> None:
    """Handing a batch to a thread takes longer than a few texts; a long one would delay all other requests."""
    threads: list[bool] = []

    def classify(texts: list[str]) -> Rows:
        threads.append(threading.current_thread() is not threading.main_thread())
        time.sleep(0.001 * len(texts))
        return numbers(texts)

    async def ask() -> None:
        batcher = Batcher(classify, max_inline_s=0.005)
        for count in (1, 1, 20, 1):  # the first one in the thread, as nothing is known about the student
            await batcher(["1"] * count)
        await batcher(["1" * 1000])  # a long text
        batcher.close()
        never = Batcher(classify)
        for _ in range(2):
            await never(["1"])
        never.close()

    asyncio.run(ask())
    assert threads == [True, False, True, False, True, True, True]


def test_a_request_without_a_task_ends_once_with_its_rows_or_an_error() -> None:
    student, outcomes = Student(), list[Rows | Exception]()

    async def ask() -> None:
        batcher = Batcher(student)
        batcher.submit(["1"], outcomes.append, 0.05)  # too slow
        batcher.submit(["2"] * 40, outcomes.append, 10)  # in several turns
        await asyncio.sleep(0.1)
        assert isinstance(outcomes[0], RefusedError) and outcomes[0].status == 503
        batcher.submit(["no number"], outcomes.append, 10)
        student.released.set()
        await batcher.finish()

    asyncio.run(ask())
    assert [type(outcome) for outcome in outcomes] == [RefusedError, np.ndarray, ValueError]
    np.testing.assert_array_equal(outcomes[1], [[2]] * 40)


def test_requests_that_arrive_during_a_batch_form_the_next_one() -> None:
    student = Student()

    async def ask() -> None:
        batcher, first = await busy_batcher(student)
        others = [asyncio.create_task(batcher([str(n)])) for n in range(1, 11)]
        await asyncio.sleep(0.01)
        student.released.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask())
    assert student.sizes == [1, 10]


def test_requests_with_many_texts_do_not_delay_one_with_a_single_text() -> None:
    done: list[tuple[str, int]] = []
    student = Student()
    student.released.set()

    async def ask() -> None:
        batcher = Batcher(student)

        async def record(name: str, texts: list[str]) -> None:
            await batcher(texts)
            done.append((name, len(student.sizes)))

        many = [record("many", ["1"] * (10 * BATCH_SIZE)), record("as many", ["1"] * (10 * BATCH_SIZE))]
        await asyncio.gather(*many, *(record("one", ["1"]) for _ in range(3)))

    asyncio.run(ask())
    assert all(name == "one" and batches <= 2 for name, batches in done[:3])  # the second batch may have begun
    # A batch is filled even if few requests are waiting.
    assert student.sizes[0] == BATCH_SIZE and TEXTS_PER_TURN < BATCH_SIZE


def test_an_error_fails_the_requests_of_its_batch_and_no_others() -> None:
    async def ask() -> None:
        batcher = Batcher(numbers)
        errors = await asyncio.gather(batcher(["1"]), batcher(["no number"]), return_exceptions=True)
        assert [type(error) for error in errors] == [ValueError, ValueError]
        assert (await batcher(["2"])).item() == 2

    asyncio.run(ask())


def test_a_wrong_number_of_rows_is_an_error() -> None:
    async def ask() -> None:
        batcher = Batcher(lambda texts: numbers(texts)[1:])
        with pytest.raises(ValueError, match="wrong number of rows"):
            await asyncio.wait_for(batcher(["1", "2"]), 1)

    asyncio.run(ask())


def test_pending_requests_are_answered_before_the_thread_ends() -> None:
    student = Student()

    async def ask() -> None:
        batcher, first = await busy_batcher(student)
        second = asyncio.create_task(batcher(["1"]))
        await asyncio.sleep(0.01)
        finished = asyncio.create_task(batcher.finish())
        await asyncio.sleep(0.01)
        student.released.set()
        assert ((await first).item(), (await second).item()) == (0, 1)
        await finished
        await batcher.finish()  # an idle one ends at once

    asyncio.run(ask())


def test_cancelled_requests_are_dropped() -> None:
    student = Student()

    async def ask() -> None:
        batcher, first = await busy_batcher(student)
        cancelled, waiting = asyncio.create_task(batcher(["1"] * 5)), asyncio.create_task(batcher(["2"]))
        await asyncio.sleep(0.01)
        cancelled.cancel()
        first.cancel()  # its batch is being computed: the rows are discarded
        await asyncio.sleep(0.01)
        student.released.set()
        assert (await waiting).item() == 2

    asyncio.run(ask())
    assert student.sizes == [1, 1]


def test_work_ends_at_its_deadline_or_when_nobody_waits_for_it() -> None:
    """Otherwise a long file would keep the thread busy, and the process alive after its stop."""
    ended = threading.Event()

    def endless(deadline: Deadline) -> None:
        try:
            for _ in range(3000):  # 3 s, so that a failure does not last for ever
                deadline.check()
                time.sleep(0.001)
        except DeadlineError:
            ended.set()
            raise

    async def ask() -> None:
        worker = WorkerThread("slow", 1, 0.1)
        with pytest.raises(RefusedError) as late:
            await worker.run(endless)
        assert late.value.status == 503 and ended.wait(1)
        ended.clear()
        worker = WorkerThread("slow", 1, 60)
        task = asyncio.create_task(worker.run(endless))
        await asyncio.sleep(0.05)
        task.cancel()
        assert await asyncio.to_thread(ended.wait, 1)
        worker.close()

    asyncio.run(ask())


def test_a_worker_thread_has_its_own_thread_limit_and_timeout() -> None:
    released = threading.Event()

    async def ask() -> None:
        worker = WorkerThread("slow", 1, 0.2)
        with worker.limit:
            with pytest.raises(RefusedError) as busy, worker.limit:
                raise AssertionError
            assert busy.value.status == 429
            with pytest.raises(RefusedError) as late:
                await worker.run(lambda deadline: released.wait(10))
            assert late.value.status == 503
            released.set()
            assert await worker.run(lambda deadline: threading.current_thread().name) == "serve-slow_0"
        worker.start(lambda: time.sleep(0.01))
        worker.close()

    asyncio.run(ask())


def test_the_limit_is_released_after_an_error() -> None:
    limit = ConcurrencyLimit(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="any"), limit:
            raise ValueError("any")
    assert limit.active == 0
