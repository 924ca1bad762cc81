"""Training curves for those who watch: TensorBoard, where it is installed; the only door of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distill.training import Evaluation


def watcher(folder: Path) -> Callable[[Evaluation], None]:
    """Write every evaluation into ``folder`` as it comes."""
    raise NotImplementedError
