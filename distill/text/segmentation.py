"""Chinese word segmentation by jieba; the only module that imports it."""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from distill.errors import UserError, join_problems
from distill.progress import remind
from distill.runtime.constants import MASKED
from distill.runtime.packing import without_zero_width
from distill.storage.encodings import read_text
from distill.storage.fingerprints import fingerprint_texts

ENTRY = re.compile(r"(\S+)( [0-9]{1,15})?( [a-z]+)?")  # no white space within a word: segmentation splits there
MAX_ENTRIES, MAX_BYTES = 2**20, 2**25  # lines and bytes of a user dictionary
ENTRY_HINT = "--user_dict FILE with one WORD, WORD FREQUENCY or WORD FREQUENCY TAG per line, single spaces"

_loading = threading.RLock()
Entry = tuple[str, int | None, str | None]  # of a user dictionary: word, frequency, part of speech


@dataclass(frozen=True)
class JiebaTables:
    """jieba's tables, from which the segmentation can be done elsewhere. They are live, not copies.

    Attributes:
        frequencies: of words; a prefix that is not itself a word has 0.
        total: sum of the frequencies.
        start: log-probability of the state (B, M, E or S) in which a run of single characters begins.
        transitions: log-probabilities, by state, then by the next state.
        emissions: log-probabilities, by state, then by character.
        split: words that the hidden Markov model must not build from single characters.
    """

    frequencies: Mapping[str, int]
    total: int
    start: Mapping[str, float]
    transitions: Mapping[str, Mapping[str, float]]
    emissions: Mapping[str, Mapping[str, float]]
    split: Set[str]


class Segmenter:
    """jieba with its own dictionary and, optionally, the words of a user dictionary.

    Segmenters do not influence each other, and each may be used from several threads. jieba's dictionary takes a second
    to load: it is loaded on first use, and all segmenters share it. Two segmenters are equal if they segment alike.

    Args:
        user_dict: a file with lines ``WORD``, ``WORD FREQUENCY`` or ``WORD FREQUENCY TAG``, as ``jieba.load_userdict``
            reads them. The frequency 0 forbids a word. Words are lowercased, as texts are before segmentation.

    Raises:
        UserError: the file is missing or neither UTF-8, UTF-16 nor GB18030, or a line has another form.
    """

    def __init__(self, user_dict: Path | None = None) -> None:
        self._entries, self._fingerprint = _read_user_dict(user_dict) if user_dict else ([], "")
        if user_dict:
            _remind_of_impossible_words(self._entries, user_dict)

    @functools.cached_property
    def identity(self) -> dict[str, str]:
        """Name and version, and the user dictionary's fingerprint: a student needs the segmenter of its training."""
        identity = {"name": "jieba", "version": metadata.version("jieba")}
        return identity | ({"dictionary": self._fingerprint} if self._fingerprint else {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Segmenter) and self._fingerprint == other._fingerprint

    def __hash__(self) -> int:
        return hash(self._fingerprint)

    def mismatch(self, recorded: Mapping[str, str]) -> str:
        """How the segmenter that a model's files record differs from this one; empty where it does not."""
        if recorded == self.identity:
            return ""
        return f"its texts were segmented by {recorded} in training, here by {self.identity}"

    def warn_of_mismatch(self, model: Path, recorded: Mapping[str, str]) -> None:
        """Warn where a model was trained with another segmenter."""
        if mismatch := self.mismatch(recorded):
            remind(f"{model}: {mismatch}: words may be segmented differently")

    def segment(self, text: str) -> list[str]:
        """The words of a text in order, lowercased, without white space; ``MASKED`` stays one word, as it is.

        Zero-width characters are left out: they would split words.
        """
        words: list[str] = []
        for index, part in enumerate(without_zero_width(text).split(MASKED)):
            words += [MASKED] * (index > 0)
            words += [word for word in self._cut(part.lower()) if not word.isspace()]
        return words

    def tag(self, text: str) -> list[tuple[str, str]]:
        """Words as :meth:`segment` writes them, with their parts of speech as ICTCLAS codes ("n", "v", "eng", …).

        The tagger has a hidden Markov model of its own for unknown words, so it occasionally segments differently.
        ``MASKED`` is its own part of speech, which no other word has.
        """
        tagged: list[tuple[str, str]] = []
        for index, part in enumerate(without_zero_width(text).split(MASKED)):
            tagged += [(MASKED, MASKED)] * (index > 0)
            tagged += [(pair.word, pair.flag) for pair in self._tagger.lcut(part.lower()) if not pair.word.isspace()]
        return tagged

    def frequent_words(self, count: int) -> list[str]:
        """The ``count`` most frequent words of the dictionary, lowercased."""
        return self._words_by_frequency[:count] if count else []

    @functools.cached_property
    def _words_by_frequency(self) -> list[str]:
        frequencies = self._tokenizer.FREQ
        ranked = sorted((word for word, n in frequencies.items() if n), key=lambda word: (-frequencies[word], word))
        return list(dict.fromkeys(word.lower() for word in ranked))

    @property
    def tables(self) -> JiebaTables:
        """The tables that decide the segmentation."""
        from jieba import finalseg as hmm

        tokenizer = self._tokenizer
        return JiebaTables(tokenizer.FREQ, tokenizer.total, hmm.start_P, hmm.trans_P, hmm.emit_P, self._split)

    def _cut(self, text: str) -> list[str]:
        words: list[str] = self._tokenizer.lcut(text)
        if not self._split:
            return words
        return [piece for word in words for piece in (word if word in self._split else (word,))]

    @functools.cached_property
    def _tokenizer(self) -> Any:
        """The tokenizer; with a user dictionary, it works on a copy of jieba's frequencies."""
        with _loading:
            shared = _shared_tokenizer()
        if not self._entries:
            return shared
        import jieba

        tokenizer = jieba.Tokenizer()
        tokenizer.FREQ, tokenizer.total, tokenizer.initialized = dict(shared.FREQ), shared.total, True
        for word, frequency, tag in self._entries:
            if frequency == 0:
                # add_word(word, 0) would put the word into a set that all tokenizers of the process share
                tokenizer.add_word(word, 1, tag)
                tokenizer.FREQ[word], tokenizer.total = 0, tokenizer.total - 1
            else:
                tokenizer.add_word(word, frequency, tag)
        return tokenizer

    @functools.cached_property
    def _split(self) -> frozenset[str]:
        """Forbidden words that jieba's hidden Markov model can still build; it knows Han characters only.

        jieba's own list of them, ``finalseg.Force_Split_Words``, is global, so :meth:`_cut` splits these words itself.
        """
        from jieba.finalseg import re_han

        forbidden = {word for word, frequency, _ in self._entries if frequency == 0 and not self._tokenizer.FREQ[word]}
        return frozenset(word for word in forbidden if re_han.fullmatch(word))

    @functools.cached_property
    def _tagger(self) -> Any:
        """The part-of-speech tagger."""
        if not self._entries:
            with _loading:
                return _shared_tagger()
        from jieba import posseg

        return posseg.POSTokenizer(self._tokenizer)


@functools.cache
def _shared_tokenizer() -> Any:
    """The tokenizer without a user dictionary; jieba's messages about loading are switched off."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.initialize()
    return tokenizer


@functools.cache
def _shared_tagger() -> Any:
    """The tagger without a user dictionary."""
    from jieba import posseg

    return posseg.POSTokenizer(_shared_tokenizer())


def _remind_of_impossible_words(entries: list[Entry], path: Path) -> None:
    """Name the words that jieba cannot produce: it splits a text at all characters but those of ``re_han_default``."""
    from jieba import re_han_default

    words = [word for word, frequency, _ in entries if frequency != 0]
    impossible = dict.fromkeys(word for word in words if len(word) > 1 and not re_han_default.fullmatch(word))
    if impossible:
        remind(
            f"{path}: jieba can never produce {len(impossible)} words of this dictionary, because it splits texts at "
            f"characters such as / and ·: {join_problems(list(impossible))}"
        )


def _read_user_dict(path: Path) -> tuple[list[Entry], str]:
    """The entries of a user dictionary in order, and its fingerprint."""
    try:
        content = read_text(path, MAX_BYTES)
    except OSError as error:
        raise UserError(f"this dictionary cannot be read: {error.strerror}", path, ENTRY_HINT) from error
    if content.count("\n") > MAX_ENTRIES:
        raise UserError(f"this dictionary is longer than {MAX_ENTRIES:,} lines", path, "leave out the rarest words")
    lines = content.split("\n")
    entries = []
    for number, line in enumerate(map(str.strip, lines), 1):
        match = ENTRY.fullmatch(without_zero_width(line).lower())
        if line and not match:
            raise UserError(f"this line is not a dictionary entry: {line[:40]!r}", f"{path}, line {number}", ENTRY_HINT)
        if match:
            word, frequency, tag = match.groups()
            entries.append((word, int(frequency) if frequency else None, tag and tag.strip()))
    return entries, fingerprint_texts(lines)
