"""The vocabulary: words and their ids."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.errors import UserError
from distill.runtime import constants
from distill.runtime.constants import MASKED
from distill.storage.atomic import write_file

PAD, UNKNOWN = "<pad>", "<unk>"
PAD_ID, UNKNOWN_ID = 0, constants.UNKNOWN_ID


@dataclass(frozen=True)
class Vocabulary:
    """Words in the order of their ids, beginning with ``<pad>`` and ``<unk>``."""

    words: tuple[str, ...]

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Word to id."""
        return {word: index for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Sequence[str], max_length: int) -> list[int]:
        """Ids of the words, truncated to ``max_length``, at least one id.

        An unknown word is replaced by its characters; ``MASKED`` is one unknown token.
        """
        ids: list[int] = []
        for word in words:
            word_id = self.ids.get(word, PAD_ID)
            if word_id > UNKNOWN_ID or word == MASKED:
                ids.append(word_id or UNKNOWN_ID)
            else:
                ids += [self.ids.get(char, UNKNOWN_ID) for char in word]
            if len(ids) >= max_length:
                break
        return ids[:max_length] or [UNKNOWN_ID]

    def save(self, path: Path) -> None:
        """Write one word per line."""
        write_file(path, "\n".join(self.words) + "\n")

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read a file that :meth:`save` wrote.

        Raises:
            UserError: it is not one.
        """
        words = tuple(path.read_text(encoding="utf-8").split("\n")[:-1])
        if words[:2] != (PAD, UNKNOWN):
            raise UserError(
                f"not a vocabulary: it must begin with {PAD} and {UNKNOWN}", path, "train the student again"
            )
        return cls(words)


def build_vocabulary(texts: Iterable[Sequence[str]], min_count: int, dictionary: Sequence[str] = ()) -> Vocabulary:
    """The words, and the characters of words, that occur at least ``min_count`` times, the most frequent first.

    Ties are broken by code point. ``MASKED`` is not counted, so that it stays unknown. The other words of
    ``dictionary`` follow in its order.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        words = [word for word in text if word != MASKED]
        counts.update(words)
        counts.update(char for word in words if len(word) > 1 for char in word)
    frequent = [(word, count) for word, count in counts.items() if count >= min_count and word not in (PAD, UNKNOWN)]
    ranked = [word for word, _ in sorted(frequent, key=lambda item: (-item[1], item[0]))]
    return Vocabulary((PAD, UNKNOWN, *dict.fromkeys((*ranked, *dictionary))))
