"""The student without PyTorch: a bundle in, labels out. Needs numpy and, once on a machine, a C compiler."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.bundle import AGAIN, read_bundle
from distill.runtime.layers import check, pointer
from distill.runtime.lexicon import Lexicon, Ngrams
from distill.runtime.native import library
from distill.runtime.networks import student
from distill.runtime.texts import beginnings, pack

__all__ = ["Runtime", "load"]

SHARD = 256  # texts that a thread takes at a time at most: few enough for the cache, many enough to be of like lengths
LEAST = 64  # and at least


class Runtime:
    """A student from its bundle; its methods may be called from several threads at once.

    Args:
        folder: the bundle, as ``--mode export`` wrote it.
        threads: over which many texts are spread; 0: one a core.

    Raises:
        UserError: the folder is no bundle, a damaged one, or one of a newer format; there is no C compiler.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        bundle = read_bundle(Path(folder))
        self.labels: tuple[str, ...] = tuple(bundle.card["labels"])
        self.temperature = float(bundle.card["temperature"])
        self._most, self._read = int(bundle.card["max_length"]), int(bundle.card["ngram_characters"])
        try:
            self._lexicon = Lexicon(bundle.arrays)
            self._ngrams = Ngrams(bundle.arrays["ngrams.row_of"]) if self._read else None
            self._student = student(bundle.card["network"], bundle.arrays)
        except (KeyError, ValueError, IndexError) as error:
            raise UserError(f"this bundle is broken: {error!r}", folder, AGAIN) from error
        self._threads = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits in the order of the texts, shape (texts, classes).

        Raises:
            UserError: a text is no string.
        """
        if len(texts) <= SHARD:
            return self._logits(texts, 0)
        rounds = -(-len(texts) // (SHARD * self._threads))  # of shards of one size: no thread waits for another's last
        size = max(LEAST, -(-len(texts) // (rounds * self._threads)))
        firsts = range(0, len(texts), size)
        shards = [texts[first : first + size] for first in firsts]
        return np.concatenate(list((self._pool.map if self._pool else map)(self._logits, shards, firsts)))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The label of every text."""
        return [self.labels[place] for place in self.logits(texts).argmax(axis=1).tolist()]

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``."""
        scaled = self.logits(texts) / np.float32(self.temperature)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]

    def cut(self, texts: Sequence[str]) -> list[list[str]]:
        """The words that the student sees of every text, before unknown ones fall into their characters."""
        return self._lexicon.cut_all(texts)

    def _logits(self, texts: Sequence[str], first: int) -> NDArray[np.float32]:
        packed = pack(texts, first)
        read = beginnings(texts, packed, self._read) if self._ngrams else packed
        found = self._student.room(len(texts))
        check(
            library().distill_classify(
                self._lexicon.struct,
                self._ngrams.struct if self._ngrams else None,
                ctypes.byref(self._student),
                ctypes.byref(packed.struct),
                ctypes.byref(read.struct),
                self._most,
                pointer(found),
            )
        )
        return found[:, : len(self.labels)]


load = Runtime
