"""The student without PyTorch: a bundle in, labels out. Needs numpy and, once on a machine, a C compiler."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.runtime.bundle import read_bundle
from distill.runtime.networks import Encoded, network

__all__ = ["Runtime", "load"]

SHARD = 512  # texts that one thread takes at a time: their words' rows are near each other in length, and in the cache


class Runtime:
    """A student from its bundle; its methods may be called from several threads.

    Args:
        folder: the bundle, as ``--mode export`` wrote it.
        threads: over which many texts are spread; 0: one a core.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        bundle = read_bundle(Path(folder))
        self.card = bundle.card
        self.labels = tuple(bundle.card["labels"])
        self.temperature = float(bundle.card["temperature"])
        self._input = Input(bundle)
        self._network = network(bundle.card["network"], bundle.arrays)
        threads = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits in the order of the texts, shape (texts, classes).

        Raises:
            UserError: a text is no string.
        """
        shards = [texts[first : first + SHARD] for first in range(0, len(texts), SHARD)]
        found = list(self._pool.map(self._logits, shards) if self._pool else map(self._logits, shards))
        return np.concatenate(found) if found else np.empty((0, len(self.labels)), np.float32)
