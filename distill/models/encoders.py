"""How raw texts become the ids of words and n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from distill.text.batching import PackedIds
from distill.text.ngrams import ngram_ids
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import PAD_ID, Vocabulary

CHARACTERS = 4  # read for n-grams, a word that may be read: a long text must not fill the memory


@dataclass(frozen=True)
class Words:
    """A student's input: words up to ``max_length`` per text, and n-grams in ``ngrams`` buckets (0: none)."""

    vocabulary: Vocabulary
    max_length: int
    ngrams: int = 0
    segmenter: Segmenter = field(default_factory=Segmenter)

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """Ids of raw texts."""
        return self.encode_segmented([self.segmenter.segment(text) for text in texts], texts)

    def encode_segmented(self, segmented: Sequence[Sequence[str]], texts: Sequence[str] = ()) -> PackedIds:
        """Ids of texts that are cut already; the raw ``texts`` are needed for n-grams only."""
        beside = None
        if self.ngrams:
            if len(texts) != len(segmented):
                raise ValueError(f"{len(segmented)} segmented texts and {len(texts)} raw ones: n-grams need each")
            beside = PackedIds([self._ngram_ids(text) for text in texts], 0)
        return PackedIds([self.vocabulary.encode(words, self.max_length) for words in segmented], PAD_ID, beside)

    def _ngram_ids(self, text: str) -> NDArray[np.int32]:
        ids = ngram_ids(text[: CHARACTERS * self.max_length], self.ngrams).astype(np.int32)
        return ids if len(ids) else np.zeros(1, np.int32)  # padding: a batch has a place for every text
