"""An example, and a data set of examples."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias

from distill.data.hierarchy import Hierarchy
from distill.runtime.packing import without_zero_width
from distill.storage.fingerprints import fingerprint_texts

if TYPE_CHECKING:
    from distill.data.readers import SetAside

CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # characters that are not white space
ACCURACY, AGREEMENT, MICRO_F1 = "accuracy", "agreement", "micro-F1"  # what models are compared by
MACRO_F1, SUBSET_ACCURACY = "macro-F1", "subset accuracy"  # the same, with --target_metric
MEAN_SCORE = "mean score of the tasks"  # of a student of several tasks
UNLABELLED = -100  # the label of a text without one: PyTorch's ignore_index, which cross-entropy skips


Label: TypeAlias = int | frozenset[int]  # the class of a text or, in multi-label data, its classes


@dataclass(frozen=True)
class Example:
    """One text. Its ``id`` depends on the text alone, so that data joined by it survive shuffling."""

    id: int
    text: str
    label: Label

    @property
    def classes(self) -> frozenset[int]:
        """The classes of the text: one, or in multi-label data any number; none if it has no label."""
        if isinstance(self.label, int):
            return frozenset([self.label] if self.label != UNLABELLED else [])
        return self.label

    @classmethod
    def of(cls, text: str, label: Label) -> Self:
        """An example of a raw text; models do not read its zero-width characters."""
        return cls(example_id(text), without_zero_width(text), label)


@dataclass(frozen=True)
class Dataset:
    """Train, dev and test without leaks; ``counts`` is what the checks found.

    ``notes`` are one line per decision that the readers made for the user: formats, columns, labels. ``set_aside`` are
    the rows that cannot be used. ``has_labels`` is False if the data has no labels and every label is what the teachers
    answer: then accuracy is agreement with them. With ``is_multi_label``, a text may have any number of labels.
    ``hierarchy`` are the levels above labels that are paths.
    """

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    labels: tuple[str, ...]
    counts: dict[str, int]
    notes: tuple[str, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    has_labels: bool = True
    is_multi_label: bool = False
    hierarchy: Hierarchy | None = None

    @property
    def measured(self) -> str:
        """What the figure is called that models are compared by."""
        if self.is_multi_label:
            return MICRO_F1
        return ACCURACY if self.has_labels else AGREEMENT

    @property
    def fingerprint(self) -> str:
        """Of the data that models are trained and selected on: train and dev texts with the names of their labels."""
        parts = (f"{split}\t{e.text}\t{self._names(e)}" for split, e in self._train_and_dev())
        return fingerprint_texts((*self.labels, *parts))

    def _names(self, example: Example) -> str:
        """The label of an example; in multi-label data, the JSON list of its labels."""
        names = [self.labels[index] for index in sorted(example.classes)]
        return json.dumps(names, ensure_ascii=False) if self.is_multi_label else "".join(names)

    def _train_and_dev(self) -> list[tuple[str, Example]]:
        return [("train", e) for e in self.train] + [("dev", e) for e in self.dev]


def text_key(text: str) -> str:
    """Texts with equal keys are the same text.

    The key is the text in Unicode normalization form NFKC (full-width letters are ordinary ones), without zero-width
    and control characters, and with white space collapsed.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    return " ".join(CONTROL.sub("", unicodedata.normalize("NFKC", without_zero_width(text))).split())


def example_id(text: str) -> int:
    """A 63-bit hash of the text. Among a million texts, the probability of a collision is 5e-8."""
    digest = hashlib.blake2b(text_key(text).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
