"""Chinese text cut into words by jieba; the only module that imports it."""

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

from distill.errors import UserError
from distill.progress import log
from distill.storage.fingerprints import fingerprint_lines

MASKED = "[UNK]"  # stands in a text for a word that neither student nor teacher knows (Tang et al. 2019, masking)
_loading = threading.Lock()
_dictionary: dict[str, str] = {}  # fingerprint of the user's dictionary, where one is loaded
_ENTRY = re.compile(r"(\S+)( [0-9]{1,15})?( [a-z]+)?")  # no white space in a word: texts are cut there


@functools.cache
def _tokenizer() -> Any:
    """A tokenizer of jieba, its dictionary loaded once and without its chatter."""
    import jieba

    with _loading:
        jieba.setLogLevel(logging.WARNING)
        tokenizer = jieba.Tokenizer()
        tokenizer.initialize()
    return tokenizer


@functools.cache
def _tagger() -> Any:
    """The cutter of jieba that also names parts of speech."""
    tokenizer = _tokenizer()  # the dictionary, without its chatter
    from jieba import posseg

    return posseg.POSTokenizer(tokenizer)


def use_dictionary(path: Path | None) -> None:
    """Cut with the user's dictionary beside jieba's from now on; None: with jieba's alone.

    A line is ``WORD``, ``WORD FREQUENCY`` or ``WORD FREQUENCY TAG``, as ``jieba.load_userdict`` reads them. Words are
    lowered, as texts are before they are cut: an entry with a capital would never be found.

    Raises:
        UserError: the file is missing or not UTF-8, or a line is none of these.
    """
    entries, known = _entries(path) if path else ([], {})
    if known == _dictionary:
        return
    from jieba import finalseg

    _tokenizer.cache_clear()
    _tagger.cache_clear()
    finalseg.Force_Split_Words.clear()
    tokenizer = _tokenizer()
    for word, frequency, tag in entries:
        tokenizer.add_word(word, frequency, tag)
    _dictionary.clear()
    _dictionary.update(known)


def _entries(path: Path) -> tuple[list[tuple[str, int | None, str | None]], dict[str, str]]:
    """The entries of a user's dictionary in their order, and its fingerprint as :func:`segmenter` gives it."""
    hint = "--user_dict FILE, in it one WORD, WORD FREQUENCY or WORD FREQUENCY TAG a line, UTF-8, with single spaces"
    try:
        raw = path.read_bytes()
        lines = raw.decode("utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"this dictionary cannot be read: {error.strerror}", path, hint) from error
    except UnicodeDecodeError as error:
        place = raw[: error.start].count(b"\n") + 1
        raise UserError("this dictionary is not UTF-8", f"{path}, line {place}", hint) from error
    entries = []
    for number, line in enumerate(map(str.strip, lines), 1):
        found = _ENTRY.fullmatch(line.lower())
        if line and not found:
            raise UserError(f"not a dictionary's entry: {line[:40]!r}", f"{path}, line {number}", hint)
        if found:
            word, frequency, tag = found.groups()
            entries.append((word, int(frequency) if frequency else None, tag and tag.strip()))
    return entries, {"dictionary": fingerprint_lines(lines)}


def segmenter() -> dict[str, str]:
    """Name and version of what cuts texts into words; a student is only right with the one it was trained with.

    With a user's dictionary its fingerprint stands there too.
    """
    return {"name": "jieba", "version": metadata.version("jieba"), **_dictionary}


def warn_of_another_segmenter(model: Path, recorded: dict[str, str]) -> None:
    """Warn where a model was trained with another segmenter than the one in use."""
    if recorded != segmenter():
        log.warning("%s: trained with %s, here is %s: words may be cut otherwise", model, recorded, segmenter())


@dataclass(frozen=True)
class Cutter:
    """jieba's tables that :func:`segment` uses, for segmentation elsewhere; the live tables, not copies.

    Attributes:
        frequencies: of words; a mere beginning of a word has 0.
        total: what frequencies are divided by.
        start: log-probability that a run of single characters begins in a state (B, M, E or S).
        transitions: of a state, then the next.
        emissions: of a state, then a character.
        split: words that are never made of single characters.
    """

    frequencies: Mapping[str, int]
    total: int
    start: Mapping[str, float]
    transitions: Mapping[str, Mapping[str, float]]
    emissions: Mapping[str, Mapping[str, float]]
    split: Set[str]


def cutter() -> Cutter:
    """The tables that texts are cut by."""
    tokenizer = _tokenizer()
    from jieba import finalseg as hmm

    tables = (hmm.start_P, hmm.trans_P, hmm.emit_P, hmm.Force_Split_Words)
    return Cutter(tokenizer.FREQ, tokenizer.total, *tables)


def frequent_words(count: int) -> list[str]:
    """The ``count`` most frequent words of the dictionary that texts are cut by, as texts hold them: in lower case."""
    frequencies = _tokenizer().FREQ
    ranked = sorted((word for word, n in frequencies.items() if n), key=lambda word: (-frequencies[word], word))
    return list(dict.fromkeys(word.lower() for word in ranked))[:count]


def segment(text: str) -> list[str]:
    """The words of a text in their order, in lower case and without white space; ``MASKED`` is a word, as it stands."""
    words: list[str] = []
    for place, part in enumerate(text.split(MASKED)):
        words += [MASKED] * (place > 0)
        words += [word for word in _tokenizer().lcut(part.lower()) if not word.isspace()]
    return words


def tag(text: str) -> list[tuple[str, str]]:
    """Words as :func:`segment` writes them, each with its part of speech in ICTCLAS' letters ("n", "v", "eng", …).

    The tagger guesses unknown words by a model of its own, so here and there it cuts otherwise than :func:`segment`.
    ``MASKED`` is tagged by itself: it is of no part of speech that another word has.
    """
    tagged: list[tuple[str, str]] = []
    for place, part in enumerate(text.split(MASKED)):
        tagged += [(MASKED, MASKED)] * (place > 0)
        tagged += [(pair.word, pair.flag) for pair in _tagger().lcut(part.lower()) if not pair.word.isspace()]
    return tagged
