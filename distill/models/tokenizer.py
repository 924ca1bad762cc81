"""Raw texts to token ids for the students over words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distill.runtime.packing import without_zero_width
from distill.storage.run_folder import VOCABULARY
from distill.text.batching import PackedIds
from distill.text.ngrams import ngram_ids
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import PAD_ID, Vocabulary

CHARACTERS_PER_WORD = 4  # bounds the n-grams of a long text: only max_length times as many characters are hashed


class TextTokenizer(Protocol):
    """Turns raw texts into the token ids that a model takes."""

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """Token ids of raw texts."""
        ...


@dataclass(frozen=True)
class WordTokenizer:
    """Segments texts into words and, optionally, hashes their character n-grams.

    Args:
        vocabulary: word ids.
        max_length: words after which a text is truncated.
        ngram_buckets: buckets that n-grams are hashed into; 0: no n-grams.
        segmenter: by default jieba without a user dictionary.
    """

    vocabulary: Vocabulary
    max_length: int
    ngram_buckets: int = 0
    segmenter: Segmenter = field(default_factory=Segmenter)

    @property
    def ngram_characters(self) -> int:
        """Characters of a text that n-grams are taken from; 0 without n-grams."""
        return CHARACTERS_PER_WORD * self.max_length if self.ngram_buckets else 0

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """Word ids, and n-gram ids, of raw texts."""
        return self.encode_segmented([self.segmenter.segment(text) for text in texts], texts)

    def encode_segmented(self, segmented: Sequence[Sequence[str]], texts: Sequence[str] = ()) -> PackedIds:
        """Like :meth:`encode`, for texts that are segmented already; n-grams need the raw ``texts`` too."""
        ngrams = None
        if self.ngram_buckets:
            if len(texts) != len(segmented):
                raise ValueError(f"{len(segmented)} segmented texts and {len(texts)} raw ones: n-grams need each")
            ngrams = PackedIds([self._ngram_ids(text) for text in texts], 0)
        return PackedIds([self.vocabulary.encode(words, self.max_length) for words in segmented], PAD_ID, ngrams)

    def _ngram_ids(self, text: str) -> NDArray[np.int32]:
        ids = ngram_ids(without_zero_width(text)[: self.ngram_characters], self.ngram_buckets).astype(np.int32)
        return ids if len(ids) else np.zeros(1, np.int32)  # one padding id: every text of a batch needs an n-gram

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the vocabulary into ``folder``; returns the entries for the student's card."""
        self.vocabulary.save(folder / VOCABULARY)
        return {"max_length": self.max_length, "segmenter": self.segmenter.identity}

    @classmethod
    def load(cls, folder: Path, card: Mapping[str, Any], ngram_buckets: int, segmenter: Segmenter) -> WordTokenizer:
        """Read what :meth:`save` wrote; warn if ``segmenter`` is not the one of the student's training."""
        segmenter.warn_of_mismatch(folder, card["segmenter"])
        return cls(Vocabulary.load(folder / VOCABULARY), card["max_length"], ngram_buckets, segmenter)
