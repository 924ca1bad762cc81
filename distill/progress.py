"""The package's logger, reminders, and progress as a bar or lines.

Only the command line and the estimator decide where messages go.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TextIO, TypeVar

Item = TypeVar("Item")
SECONDS_PER_LINE = 30.0  # between the lines that stand in for a progress bar
log = logging.getLogger("distill")
reminders: dict[str, None] = {}  # warnings that the command line repeats at the end, in order; the values are not used
model_reminders: dict[str, None] = {}  # those since the training of a model began, to be saved with it


def remind(message: str, *, of_model: bool = True) -> None:
    """Log a warning that is repeated when the command ends; the same message counts once.

    While a model is trained, the warning is saved with it (``of_model``), because the report may be written by another
    command. A warning that the report finds out by itself is not.
    """
    if of_model:
        model_reminders[message] = None
    if message not in reminders:
        reminders[message] = None
        log.warning("%s", message)


@contextlib.contextmanager
def reminders_of_one_model() -> Iterator[None]:
    """Warnings within the block are saved with the model that is trained there, those from before with every model."""
    before = dict(model_reminders)
    try:
        yield
    finally:
        model_reminders.clear()
        model_reminders.update(before)


class MessageHandler(logging.Handler):
    """Prints the package's messages above a running progress bar.

    Args:
        stream: returns the stream to print to; it is asked every time, because callers may redirect ``sys.stdout``.
    """

    def __init__(self, stream: Callable[[], TextIO]) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message. No bar is running while nobody has imported tqdm, which takes a tenth of a second."""
        stream = self._stream()
        if "tqdm" in sys.modules:
            from tqdm import tqdm

            tqdm.write(self.format(record), file=stream)
        else:
            stream.write(f"{self.format(record)}\n")
        stream.flush()


def progress_bar(name: str, total: int, unit: str, items: Iterable[Any] | None = None) -> Any:
    """A tqdm bar, to be used in a ``with`` and advanced by ``update``, or iterated over when it has ``items``.

    It is shown after one second, if messages are shown (level INFO); a bar within another disappears at its end. If
    standard error is neither a terminal nor a notebook, a :class:`ProgressLines` takes the bar's place.
    """
    if is_in_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tqdm's, that ipywidgets is missing; its bar is text then
            from tqdm.autonotebook import tqdm
    elif sys.stderr is None or not sys.stderr.isatty():
        return ProgressLines(name, total, unit, items)
    else:
        from tqdm import tqdm

    disable = not log.isEnabledFor(logging.INFO)
    look = {"unit": f" {unit}", "delay": 1.0, "dynamic_ncols": True, "smoothing": 0.1}
    return tqdm(items, name, total, leave=None, disable=disable, **look)


def is_in_notebook() -> bool:
    """Whether the program runs in the kernel of a notebook, such as Jupyter or Colab."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell is not None and hasattr(shell, "kernel")


def with_progress_bar(items: Iterable[Item], name: str, total: int, unit: str = "texts") -> Iterable[Item]:
    """Iterate over ``items`` while a progress bar shows how many of ``total`` are done."""
    bar: Iterable[Item] = progress_bar(name, total, unit, items)
    return bar


class ProgressLines:
    """Logs how far the work is every 30 s; has the part of tqdm's interface that the package uses.

    For standard error that is a file or a pipe: continuous integration, nohup, docker logs. Work of less than 30 s logs
    nothing.

    Args:
        name: of the work.
        total: how many items there are; 0 if nobody knows.
        unit: of the items, in the plural.
        items: to iterate over.
        clock: the time in seconds.

    Attributes:
        n: how many items are done.
        initial: how many of them were done before, by an interrupted run.
    """

    def __init__(
        self,
        name: str,
        total: int,
        unit: str,
        items: Iterable[Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.total, self.unit, self.items = name, total, unit, items
        self.n = self.initial = 0
        self._postfix = ""
        self._clock = clock
        self._started = self._last_line = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[Any]:
        for item in self.items or ():
            yield item
            self.update()

    def update(self, n: int = 1) -> None:
        """Count ``n`` more items as done, and log a line if the last one is 30 s old."""
        self.n += n
        now = self._clock()
        if now - self._last_line >= SECONDS_PER_LINE and self.n != self.total:
            self._last_line = now
            log.info("%s", self._line(now - self._started))

    def set_postfix_str(self, postfix: str, **_: bool) -> None:
        """Set the end of the next lines."""
        self._postfix = postfix

    def _line(self, seconds: float) -> str:
        """The progress after ``seconds``, as in ``teacher: 30 of 110 steps (27 %), 2.5 steps/s, 32 s left``."""
        rate = (self.n - self.initial) / seconds
        if not self.total:
            return _joined(f"{self.name}: {self.n:,} {self.unit}", _rate(rate, self.unit), self._postfix)
        done = f"{self.name}: {self.n:,} of {self.total:,} {self.unit} ({100 * self.n / self.total:.0f} %)"
        left = f"{duration((self.total - self.n) / rate)} left" if rate else ""
        return _joined(done, _rate(rate, self.unit), left, self._postfix)


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _rate(rate: float, unit: str) -> str:
    """Items per second, or seconds per item where that is the larger number; empty for a rate of 0."""
    if rate >= 1:
        return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"
    return f"{duration(1 / rate)} per {unit.removesuffix('s')}" if rate else ""


def duration(seconds: float) -> str:
    """A time as ``47 s``, ``3 min 47 s`` or ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
