"""Timing: interleaved rounds, single texts, fresh processes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from distill.errors import UserError
from distill.evaluation.timing import Workload, fresh_process, interleaved_rounds, single_calls


class Clock:
    """A clock that only moves when a model predicts."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def model(self, name: str, *seconds: float) -> Callable[[Sequence[str]], list[str]]:
        """A model that takes ``seconds`` per text: one figure per call, the last one for all further calls."""
        remaining = list(seconds)

        def predict(texts: Sequence[str]) -> list[str]:
            self.calls.append(name)
            self.now += len(texts) * (remaining.pop(0) if len(remaining) > 1 else remaining[0])
            return ["x"] * len(texts)

        return predict


def test_rounds_are_interleaved_after_a_warmup() -> None:
    clock = Clock()
    tasks = {
        "a": Workload(clock.model("a", 9, 1, 2, 4), ["t"] * 3, 3),
        "b": Workload(clock.model("b", 7, 0.5), ["t"] * 2, 3),
    }
    assert interleaved_rounds(tasks, clock) == {"a": (1, 2, 4), "b": (0.5, 0.5, 0.5)}
    assert "".join(clock.calls) == "ab" + "ababab"


def test_fewer_rounds_are_spread_evenly() -> None:
    clock = Clock()
    tasks = {"q": Workload(clock.model("q", 1), ["t"], 5), "s": Workload(clock.model("s", 1), ["t"], 3)}
    assert [len(seconds) for seconds in interleaved_rounds(tasks, clock).values()] == [5, 3]
    assert "".join(clock.calls[2:]) == "qsqqsqqs"


def test_a_short_run_is_repeated() -> None:
    clock = Clock()
    (seconds,) = interleaved_rounds(
        {"a": Workload(clock.model("a", 0.01), ["t"] * 2, 1)}, clock, min_seconds=0.1
    ).values()
    assert seconds == (pytest.approx(0.01),) and len(clock.calls) == 1 + 5


def test_the_garbage_collector_leaves_other_models_alone() -> None:
    frozen = []
    interleaved_rounds({"a": Workload(lambda _: frozen.append(gc.get_freeze_count()), ["t"], 2)}, min_seconds=0)
    assert min(frozen[1:]) > 0, "after the warm-up"
    frozen.clear()
    single_calls(lambda _: frozen.append(gc.get_freeze_count()), ["t"], 1)
    assert min(frozen) > 0
    assert gc.get_freeze_count() == 0


def test_nothing_to_time() -> None:
    assert interleaved_rounds({}) == {}


def test_single_calls_after_a_warmup() -> None:
    clock, seen = Clock(), []
    model = clock.model("a", 50, 50, 1, 2, 3)

    def predict(texts: Sequence[str]) -> list[str]:
        seen.extend(texts)
        return model(texts)

    assert single_calls(predict, ["t", "u", "v"], 20, clock) == (1, 2, *[3] * 18)
    assert seen[2:6] == ["t", "u", "v", "t"]


def test_a_fresh_process_is_measured_without_this_one() -> None:
    here = np.ones(40_000_000)  # 320 MB, which must not be counted as memory of the child
    texts = ["好\ud800", "坏"]
    code = "import time; time.sleep(0.2); block = b'x' * {}; predict = lambda texts: [str(t) for t in texts]"
    small, large = (fresh_process(code.format(size), [], texts) for size in (1, 100_000_000))
    assert here[0] and small.memory_mb < 100
    assert 90 < large.memory_mb - small.memory_mb < 130
    assert 0.2 < small.start_s < 20


def test_a_fresh_process_finds_the_package_and_its_arguments() -> None:
    code = "from distill.errors import UserError; predict = {'a': len}[sys.argv[1]]"
    assert fresh_process(code, ["a"], ["t"]).start_s > 0
    with pytest.raises(UserError, match=r"KeyError: 'b'"):
        fresh_process(code, ["b"], ["t"])


def test_a_fresh_process_with_unexpected_output_is_an_error() -> None:
    with pytest.raises(UserError, match="it printed 4 lines instead of 2"):
        fresh_process("predict = print", [], ["t"])
