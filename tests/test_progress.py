"""Progress lines, which take the place of bars where standard error is not a terminal; durations; reminders."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from distill import progress
from distill.progress import ProgressLines, duration, progress_bar, with_progress_bar


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "distill")


def worked(clock: Clock, lines: ProgressLines, *steps: tuple[float, int]) -> None:
    """Advance by pairs of seconds and items."""
    for seconds, items in steps:
        clock.now += seconds
        lines.update(items)


def test_a_line_every_30_seconds(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with ProgressLines("teacher", 15_000, "texts", clock=clock) as lines:
        worked(clock, lines, (29.9, 1500), (0.1, 60), (29.9, 1500), (0.1, 100))
        assert caplog.messages == [
            "teacher: 1,560 of 15,000 texts (10 %), 52 texts/s, 4 min 18 s left",
            "teacher: 3,160 of 15,000 texts (21 %), 53 texts/s, 3 min 45 s left",
        ]


def test_quick_work_and_the_end_of_work_log_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    lines = ProgressLines("LinearSVC", 2, "models", clock=clock)
    worked(clock, lines, (29, 1), (29, 1))
    assert caplog.messages == []


def test_slow_work_counts_seconds_per_item(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    lines = ProgressLines("teacher", 1100, "steps", clock=clock)
    lines.set_postfix_str("dev 0.8123", refresh=False)
    worked(clock, lines, (36, 3))
    lines.set_postfix_str("")
    worked(clock, lines, (30, 63))
    assert caplog.messages == [
        "teacher: 3 of 1,100 steps (0 %), 12 s per step, 3 h 39 min left, dev 0.8123",
        "teacher: 66 of 1,100 steps (6 %), 1.0 steps/s, 17 min 14 s left",
    ]


def test_a_continued_file_counts_only_its_own_work(caplog: pytest.LogCaptureFixture) -> None:
    """As ``--mode predict`` does: what an interrupted run has done is not part of the rate."""
    clock = Clock()
    lines = ProgressLines("a.csv", 1000, "MB", clock=clock)
    lines.initial = lines.n = 500
    worked(clock, lines, (30, 0), (20, 0), (10, 60))
    assert caplog.messages == [
        "a.csv: 500 of 1,000 MB (50 %)",
        "a.csv: 560 of 1,000 MB (56 %), 1.0 MB/s, 7 min 20 s left",
    ]


def test_a_total_that_nobody_knows(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    worked(clock, ProgressLines("standard input", 0, "MB", clock=clock), (40, 80))
    assert caplog.messages == ["standard input: 80 MB, 2.0 MB/s"]


def test_iterating_advances(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    def slow() -> Iterator[str]:
        for letter in "abcd":
            clock.now += 20
            yield letter

    assert list(ProgressLines("jieba", 4, "texts", slow(), clock)) == list("abcd")
    assert caplog.messages == ["jieba: 2 of 4 texts (50 %), 20 s per text, 40 s left"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(with_progress_bar("abcd", "jieba", 4), ProgressLines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert type(progress_bar("jieba", 4, "texts")).__name__ == "tqdm"
    monkeypatch.setattr("sys.stderr", None)  # as with pythonw
    assert isinstance(progress_bar("jieba", 4, "texts"), ProgressLines)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (227, "3 min 47 s"), (7530, "2 h 5 min")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_reminder_counts_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "reminders", {})
    for _ in range(2):
        progress.remind("the teacher is bad")
    assert caplog.messages == list(progress.reminders) == ["the teacher is bad"]


@pytest.mark.parametrize("has_widgets", [False, True])
def test_a_notebook_has_bars(has_widgets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar of widgets where they are installed, otherwise one of text; never lines. Standard error is no terminal."""
    kernel = SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", SimpleNamespace())
    monkeypatch.delitem(sys.modules, "tqdm.autonotebook", raising=False)
    monkeypatch.setattr("tqdm.notebook.IProgress", object() if has_widgets else None)
    monkeypatch.setattr("tqdm.notebook.tqdm", FakeBar)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bar = progress_bar("teacher", 10, "steps")
    assert type(bar) is (FakeBar if has_widgets else tqdm) and not bar.disable
    bar.close()
    monkeypatch.setattr(progress.log, "isEnabledFor", lambda level: level >= logging.ERROR)
    assert progress_bar("teacher", 10, "steps").disable


def test_a_terminal_with_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    for shell in (None, SimpleNamespace(config={})):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert not progress.is_in_notebook() and isinstance(progress_bar("teacher", 10, "steps"), ProgressLines)


class FakeBar(tqdm):  # type: ignore[type-arg]
    """Stands in for the bar of widgets."""
