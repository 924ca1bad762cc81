"""What a data set is made of once it is read and checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from distill.storage.fingerprints import fingerprint_texts

UNLABELLED = -100  # the label of a text that has none: PyTorch's ignore_index, which no cross-entropy counts


@dataclass(frozen=True)
class Example:
    """One text; ``id`` follows from the text alone, so whatever is joined by it survives shuffling."""

    id: int
    text: str
    label: int


@dataclass(frozen=True)
class Dataset:
    """Train, dev and test, already free of leaks; ``counts`` says what the checks found."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    counts: dict[str, int]

    @property
    def fingerprint(self) -> str:
        """Of what models are trained and selected on: train and dev texts with their labels' names."""
        parts = (f"{split}\t{e.text}\t{self.labels[e.label]}" for split, e in self._seen())
        return fingerprint_texts((*self.labels, *parts))

    def _seen(self) -> list[tuple[str, Example]]:
        return [("train", e) for e in self.train] + [("dev", e) for e in self.dev]


def text_key(text: str) -> str:
    """Two texts are the same text when their keys are equal: outer and repeated white space does not count."""
    return " ".join(text.split())


def example_id(text: str) -> int:
    """A 63-bit id made from the text (two of a million texts collide with probability 5e-8)."""
    digest = hashlib.blake2b(text_key(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
