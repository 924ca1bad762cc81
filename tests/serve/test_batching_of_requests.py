"""Requests that arrive together are answered together, in turn, and each gets its own rows."""

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
from distill.serve.limits import ConcurrencyLimit, RefusedError


def numbers(texts: list[str]) -> Rows:
    """Every text is a number; its row says which."""
    return np.array([[float(text)] for text in texts], np.float32)


class Student:
    """Notes the sizes of its batches; the first one waits until it is let."""

    def __init__(self, answer: Callable[[list[str]], Rows] = numbers) -> None:
        self.let, self.sizes, self._answer = threading.Event(), list[int](), answer

    def __call__(self, texts: list[str]) -> Rows:
        self.sizes.append(len(texts))
        assert self.let.wait(10)
        return self._answer(texts)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 3 * BATCH_SIZE), min_size=1, max_size=12))
def test_each_gets_its_own_rows(sizes: list[int]) -> None:
    ends = np.cumsum(sizes).tolist()
    requests = [[str(n) for n in range(end - size, end)] for size, end in zip(sizes, ends, strict=True)]
    seen: list[int] = []

    async def ask() -> list[Rows]:
        batcher = Batcher(numbers, seen.append)
        found = await asyncio.gather(*map(batcher, requests))
        batcher.close()
        return found

    for texts, rows in zip(requests, asyncio.run(ask()), strict=True):
        np.testing.assert_array_equal(rows, numbers(texts))
    assert sum(seen) == sum(sizes) and max(seen) <= BATCH_SIZE
    assert seen[:-1] == [BATCH_SIZE] * (len(seen) - 1)  # they came together: no batch but the last has room


def test_what_arrives_meanwhile_is_one_batch() -> None:
    student = Student()

    async def ask() -> None:
        batcher = Batcher(student)
        first = asyncio.create_task(batcher(["0"]))
        while not student.sizes:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher([str(n)])) for n in range(1, 11)]
        await asyncio.sleep(0.01)
        student.let.set()
        await asyncio.gather(first, *others)

    asyncio.run(ask())
    assert student.sizes == [1, 10]


def test_many_texts_do_not_hold_up_one() -> None:
    done: list[tuple[str, int]] = []
    student = Student()
    student.let.set()

    async def ask() -> None:
        batcher = Batcher(student)

        async def noted(name: str, texts: list[str]) -> None:
            await batcher(texts)
            done.append((name, len(student.sizes)))

        many = [noted("many", ["1"] * (10 * BATCH_SIZE)), noted("as many", ["1"] * (10 * BATCH_SIZE))]
        await asyncio.gather(*many, *(noted("one", ["1"]) for _ in range(3)))

    asyncio.run(ask())
    assert all(name == "one" and batches <= 2 for name, batches in done[:3])  # the second batch has begun, maybe
    assert (
        student.sizes[0] == BATCH_SIZE and TEXTS_PER_TURN < BATCH_SIZE
    )  # a batch is filled even where few are waiting


def test_a_fault_reaches_all_who_wait_for_it_and_nobody_else() -> None:
    async def ask() -> None:
        batcher = Batcher(numbers)
        faults = await asyncio.gather(batcher(["1"]), batcher(["no number"]), return_exceptions=True)
        assert [type(fault) for fault in faults] == [ValueError, ValueError]
        assert (await batcher(["2"])).item() == 2

    asyncio.run(ask())


def test_who_left_is_forgotten() -> None:
    student = Student()

    async def ask() -> None:
        batcher = Batcher(student)
        first = asyncio.create_task(batcher(["0"]))
        while not student.sizes:
            await asyncio.sleep(0.001)
        gone, stayed = asyncio.create_task(batcher(["1"] * 5)), asyncio.create_task(batcher(["2"]))
        await asyncio.sleep(0.01)
        gone.cancel()
        first.cancel()  # its batch is under way: the answer is dropped
        await asyncio.sleep(0.01)
        student.let.set()
        assert (await stayed).item() == 2

    asyncio.run(ask())
    assert student.sizes == [1, 1]


def test_a_lane_has_its_own_thread_and_places() -> None:
    let = threading.Event()

    async def ask() -> None:
        worker = WorkerThread("slow", 1, 0.2)
        with worker.limit:
            with pytest.raises(RefusedError) as busy, worker.limit:
                raise AssertionError
            assert busy.value.status == 429
            with pytest.raises(RefusedError) as late:
                await worker.run(lambda: let.wait(10))
            assert late.value.status == 503
            let.set()
            assert await worker.run(lambda: threading.current_thread().name) == "slow_0"
        lane.start(lambda: time.sleep(0.01))
        worker.close()

    asyncio.run(ask())


def test_a_place_is_given_back_after_a_fault() -> None:
    places = ConcurrencyLimit(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="any"), places:
            raise ValueError("any")
    assert limit.active == 0
