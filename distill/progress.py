"""The package's logger, reminders and progress bars. Only the command line decides where messages go."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
log = logging.getLogger("distill")
reminders: dict[str, None] = {}  # warnings that the command line repeats at the end, in order; the values are not used


def remind(message: str) -> None:
    """Log a warning that is repeated when the command ends; the same message counts once."""
    if message not in reminders:
        reminders[message] = None
        log.warning("%s", message)


def progress_bar(name: str, total: int, unit: str, items: Iterable[Any] | None = None) -> Any:
    """A tqdm bar, to be used in a ``with`` and advanced by ``update``, or iterated over when it has ``items``.

    It is shown after one second, if messages are shown (level INFO) and standard error is a terminal.
    """
    from tqdm import tqdm

    disable = None if log.isEnabledFor(logging.INFO) else True  # None: tqdm checks for a terminal
    return tqdm(items, name, total, unit=f" {unit}", delay=1.0, disable=disable, dynamic_ncols=True, smoothing=0.1)


def with_progress_bar(items: Iterable[Item], name: str, total: int, unit: str = "texts") -> Iterable[Item]:
    """Iterate over ``items`` while a progress bar shows how many of ``total`` are done."""
    bar: Iterable[Item] = progress_bar(name, total, unit, items)
    return bar
