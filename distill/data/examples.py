"""An example, and a data set of examples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from distill.storage.fingerprints import fingerprint_texts

UNLABELLED = -100  # the label of a text without one: PyTorch's ignore_index, which cross-entropy skips


@dataclass(frozen=True)
class Example:
    """One text. Its ``id`` depends on the text alone, so that data joined by it survive shuffling."""

    id: int
    text: str
    label: int


@dataclass(frozen=True)
class Dataset:
    """Train, dev and test without leaks; ``counts`` is what the checks found.

    ``notes`` are one line per decision that the readers made for the user: formats, columns, rows set aside.
    """

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    counts: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Of the data that models are trained and selected on: train and dev texts with the names of their labels."""
        parts = (f"{split}\t{e.text}\t{self.labels[e.label]}" for split, e in self._train_and_dev())
        return fingerprint_texts((*self.labels, *parts))

    def _train_and_dev(self) -> list[tuple[str, Example]]:
        return [("train", e) for e in self.train] + [("dev", e) for e in self.dev]


def text_key(text: str) -> str:
    """Texts with equal keys are the same text: outer and repeated white space is ignored."""
    return " ".join(text.split())


def example_id(text: str) -> int:
    """A 63-bit hash of the text. Among a million texts, the probability of a collision is 5e-8."""
    digest = hashlib.blake2b(text_key(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
