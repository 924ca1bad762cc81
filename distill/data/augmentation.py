"""Data augmentation of Tang et al. 2019 (arXiv 1903.12136): augmented copies of texts, for the teacher to label."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from distill.config import TransferSettings
from distill.errors import UserError
from distill.progress import with_progress_bar
from distill.runtime.constants import MASKED
from distill.text.segmentation import Segmenter

MAX_NGRAM = 5  # words
Tagged = list[tuple[str, str]]  # (word, part of speech)


class Unigrams:
    """How often each word occurs in texts, separately for each part of speech."""

    def __init__(self, texts: Iterable[Tagged]) -> None:
        counts: dict[str, Counter[str]] = {}
        for text in texts:
            for word, part in text:
                counts.setdefault(part, Counter())[word] += 1
        self.words = {part: list(counter) for part, counter in counts.items()}
        self.indices = {part: {word: index for index, word in enumerate(words)} for part, words in self.words.items()}
        self.ends = {part: list(accumulate(counter.values())) for part, counter in counts.items()}

    def another(self, word: str, part: str, rng: random.Random) -> str:
        """Another word of the same part of speech, sampled by frequency; ``word`` itself if there is none.

        ``word`` must occur in the texts as this part of speech.
        """
        ends, index = self.ends[part], self.indices[part][word]
        begin = ends[index - 1] if index else 0
        count = ends[index] - begin
        if ends[-1] == count:
            return word
        position = rng.randrange(ends[-1] - count)  # among all occurrences except those of ``word``
        return self.words[part][bisect_right(ends, position + count if position >= begin else position)]


def augment(texts: Sequence[str], settings: TransferSettings, seed: int, segmenter: Segmenter) -> list[str]:
    """``settings.augment`` augmented copies of every text, in lower case, with ``MASKED`` in place of masked words.

    Copies that are unaltered, repeat another copy or equal one of ``texts`` are left out, so there may be fewer. The
    same texts, settings and seed give the same copies.

    Raises:
        UserError: the probabilities of masking and of replacing a word add up to more than 1.
    """
    if settings.mask + settings.replace > 1 + 1e-9:
        raise UserError(
            f"a word is masked or replaced with a probability of {settings.mask + settings.replace:g}, more than 1",
            "--augment_mask, --augment_replace",
            "--augment_mask 0.1 --augment_replace 0.1",
        )
    if not settings.augment:
        return []
    tagged = [segmenter.tag(text) for text in with_progress_bar(texts, "parts of speech", len(texts))]
    unigrams, rng = Unigrams(tagged), random.Random(seed)
    existing = {*texts, *(_join([word for word, _ in text]) for text in tagged)}
    copies: dict[str, None] = {}  # an ordered set
    for text in with_progress_bar(tagged, "augmented copies", len(tagged)):
        for _ in range(settings.augment):
            copy = _join(_altered(text, unigrams, settings, rng))
            if copy not in existing:
                copies[copy] = None
    return list(copies)


def _altered(text: Tagged, unigrams: Unigrams, settings: TransferSettings, rng: random.Random) -> list[str]:
    """The words of one copy: each may be masked or replaced, then the copy may be reduced to an n-gram."""
    words = []
    for word, part in text:
        chance = rng.random()
        if chance < settings.mask:
            words.append(MASKED)
        elif chance < settings.mask + settings.replace:
            words.append(unigrams.another(word, part, rng))
        else:
            words.append(word)
    if rng.random() < settings.ngram:
        length = min(rng.randint(1, MAX_NGRAM), len(words))
        begin = rng.randint(0, len(words) - length)
        words = words[begin : begin + length]
    return words


def _join(words: Sequence[str]) -> str:
    """Words as running text; a space separates only two words that meet in ASCII letters or digits."""
    text = ""
    for word in words:
        text += " " + word if _is_ascii_word(text[-1:]) and _is_ascii_word(word[:1]) else word
    return text


def _is_ascii_word(char: str) -> bool:
    return char.isascii() and char.isalnum()
