"""Progress bars with a rate and the time left, and the one logger; the command line alone decides where they show."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
log = logging.getLogger("distill")
reminders: dict[str, None] = {}  # what the command line says once more at the end, in order


def remind(message: str) -> None:
    """Log a warning, and have it repeated when the command ends; the same one twice counts once."""
    if message not in reminders:
        reminders[message] = None
        log.warning("%s", message)


def progress_bar(what: str, total: int, unit: str, items: Iterable[Any] | None = None) -> Any:
    """A bar with ``update``, to be used in a ``with``; it appears after a second, on a terminal, where messages do."""
    from tqdm import tqdm

    hidden = None if log.isEnabledFor(logging.INFO) else True  # None: tqdm asks whether there is a terminal
    return tqdm(items, what, total, unit=f" {unit}", delay=1.0, disable=hidden, dynamic_ncols=True, smoothing=0.1)


def with_progress_bar(items: Iterable[Item], what: str, total: int, unit: str = "texts") -> Iterable[Item]:
    """``items`` behind a bar."""
    shown: Iterable[Item] = progress_bar(what, total, unit, items)
    return shown
