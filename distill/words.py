"""Words: Chinese text cut by jieba, and the vocabulary that numbers them. The only door of jieba."""

from __future__ import annotations

import functools
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.runs import write_file

PAD, UNKNOWN = "<pad>", "<unk>"
PAD_ID, UNKNOWN_ID = 0, 1
MASKED = "[UNK]"  # stands in a text for a word that neither student nor teacher knows (Tang et al. 2019, masking)
_loading = threading.Lock()


@functools.cache
def _cut() -> Callable[[str], list[str]]:
    """The cutter of jieba, its dictionary loaded once and without its chatter."""
    import jieba

    with _loading:
        jieba.setLogLevel(logging.WARNING)
        jieba.initialize()
    return jieba.lcut  # type: ignore[no-any-return]


@functools.cache
def _tagger() -> Callable[[str], list[Any]]:
    """The cutter of jieba that also names parts of speech."""
    _cut()  # the dictionary, without its chatter
    from jieba import posseg

    return posseg.lcut  # type: ignore[no-any-return]


def segmenter() -> dict[str, str]:
    """Name and version of what cuts texts into words; a student is only right with the one it was trained with."""
    return {"name": "jieba", "version": metadata.version("jieba")}


def segment(text: str) -> list[str]:
    """The words of a text in their order, in lower case and without white space; ``MASKED`` is a word, as it stands."""
    words: list[str] = []
    for place, part in enumerate(text.split(MASKED)):
        words += [MASKED] * (place > 0)
        words += [word for word in _cut()(part.lower()) if not word.isspace()]
    return words


def tag(text: str) -> list[tuple[str, str]]:
    """Words as :func:`segment` writes them, each with its part of speech in ICTCLAS' letters ("n", "v", "eng", …).

    The tagger guesses unknown words by a model of its own, so here and there it cuts otherwise than :func:`segment`.
    ``MASKED`` is tagged by itself: it is of no part of speech that another word has.
    """
    tagged: list[tuple[str, str]] = []
    for place, part in enumerate(text.split(MASKED)):
        tagged += [(MASKED, MASKED)] * (place > 0)
        tagged += [(pair.word, pair.flag) for pair in _tagger()(part.lower()) if not pair.word.isspace()]
    return tagged


@dataclass(frozen=True)
class Vocabulary:
    """Words in the order of their ids; the first two are ``<pad>`` and ``<unk>``."""

    words: tuple[str, ...]

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Word to id."""
        return {word: index for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Sequence[str], most: int) -> list[int]:
        """Ids of the first ``most`` words; an unknown word gives its characters' ids, ``MASKED`` one; never empty."""
        ids: list[int] = []
        for word in words:
            known = self.ids.get(word, PAD_ID)
            if known > UNKNOWN_ID or word == MASKED:
                ids.append(known or UNKNOWN_ID)
            else:
                ids += [self.ids.get(char, UNKNOWN_ID) for char in word]
            if len(ids) >= most:
                break
        return ids[:most] or [UNKNOWN_ID]

    def save(self, path: Path) -> None:
        """One word a line."""
        write_file(path, "\n".join(self.words) + "\n")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what :meth:`save` wrote."""
        words = tuple(path.read_text(encoding="utf-8").split("\n")[:-1])
        if words[:2] != (PAD, UNKNOWN):
            raise UserError(
                f"not a vocabulary: it must begin with {PAD} and {UNKNOWN}", path, "train the student again"
            )
        return cls(words)


def build_vocabulary(texts: Iterable[Sequence[str]], min_count: int) -> Vocabulary:
    """Words seen ``min_count`` times and every character seen so, the most frequent first (ties by code point).

    ``MASKED`` and its characters are not counted: it is to stay unknown.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        words = [word for word in text if word != MASKED]
        counts.update(words)
        counts.update(char for word in words if len(word) > 1 for char in word)
    frequent = [(word, count) for word, count in counts.items() if count >= min_count and word not in (PAD, UNKNOWN)]
    return Vocabulary((PAD, UNKNOWN, *(word for word, _ in sorted(frequent, key=lambda item: (-item[1], item[0])))))
