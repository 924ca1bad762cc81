"""Altered copies of texts (Tang et al. 2019, arXiv 1903.12136, data augmentation), made before the teacher labels."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from distill.config import TransferSettings
from distill.errors import UserError
from distill.progress import with_progress_bar
from distill.text.segmentation import MASKED, Segmenter

LONGEST_NGRAM = 5  # words
Tagged = list[tuple[str, str]]  # (word, part of speech)


class Unigrams:
    """How often texts use each word, for every part of speech apart."""

    def __init__(self, texts: Iterable[Tagged]) -> None:
        counts: dict[str, Counter[str]] = {}
        for text in texts:
            for word, part in text:
                counts.setdefault(part, Counter())[word] += 1
        self.words = {part: list(counter) for part, counter in counts.items()}
        self.places = {part: {word: place for place, word in enumerate(words)} for part, words in self.words.items()}
        self.ends = {part: list(accumulate(counter.values())) for part, counter in counts.items()}

    def another(self, word: str, part: str, choose: random.Random) -> str:
        """Another word of the same part of speech, drawn as often as it is used; ``word`` itself if there is none.

        ``word`` must be one of the texts' words of that part.
        """
        ends, place = self.ends[part], self.places[part][word]
        begin = ends[place - 1] if place else 0
        own = ends[place] - begin
        if ends[-1] == own:
            return word
        drawn = choose.randrange(ends[-1] - own)  # on the line of all uses, from which the word's own are cut out
        return self.words[part][bisect_right(ends, drawn + own if drawn >= begin else drawn)]


def augmented(texts: Sequence[str], settings: TransferSettings, seed: int, segmenter: Segmenter) -> list[str]:
    """``settings.augment`` altered copies of every text, as strings in lower case that hold ``MASKED`` for lost words.

    Copies that came out unaltered, that repeat another copy or that are one of ``texts`` are left out, so there may
    be fewer. The same texts, settings and seed give the same copies.

    Raises:
        UserError: the chances of masking and of replacing a word are more than 1 together.
    """
    if settings.mask + settings.replace > 1 + 1e-9:
        raise UserError(
            f"a word is masked or replaced with a chance of {settings.mask + settings.replace:g}, more than 1",
            "--augment_mask, --augment_replace",
            "--augment_mask 0.1 --augment_replace 0.1",
        )
    if not settings.augment:
        return []
    tagged = [segmenter.tag(text) for text in with_progress_bar(texts, "parts of speech", len(texts))]
    unigrams, choose = Unigrams(tagged), random.Random(seed)
    known = {*texts, *(_join([word for word, _ in text]) for text in tagged)}
    copies: dict[str, None] = {}  # a set that keeps its order
    for text in with_progress_bar(tagged, "altered copies", len(tagged)):
        for _ in range(settings.augment):
            copy = _join(_altered(text, unigrams, settings, choose))
            if copy not in known:
                copies[copy] = None
    return list(copies)


def _altered(text: Tagged, unigrams: Unigrams, settings: TransferSettings, choose: random.Random) -> list[str]:
    """One copy's words: masked or replaced one by one, then perhaps cut to an n-gram."""
    words = []
    for word, part in text:
        draw = choose.random()
        if draw < settings.mask:
            words.append(MASKED)
        elif draw < settings.mask + settings.replace:
            words.append(unigrams.another(word, part, choose))
        else:
            words.append(word)
    if choose.random() < settings.ngram:
        length = min(choose.randint(1, LONGEST_NGRAM), len(words))
        begin = choose.randint(0, len(words) - length)
        words = words[begin : begin + length]
    return words


def _join(words: Sequence[str]) -> str:
    """Words as running text: without spaces, save between two that are Latin or numbers where they meet."""
    text = ""
    for word in words:
        text += " " + word if _is_latin(text[-1:]) and _is_latin(word[:1]) else word
    return text


def _is_latin(char: str) -> bool:
    return char.isascii() and char.isalnum()
