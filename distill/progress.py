"""Progress bars with a rate and the time left, and the one logger; the command line alone decides where they show."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
log = logging.getLogger("distill")


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "texts") -> Any:
    """``items`` behind a bar that appears after a second, on a terminal only; also a plain bar with ``update``."""
    from tqdm import tqdm

    return tqdm(items, what, total, unit=f" {unit}", delay=1.0, disable=None, dynamic_ncols=True, smoothing=0.1)
