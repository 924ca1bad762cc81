"""Which words drove a decision: each is left out once, and what that changes is its weight (occlusion)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from distill.runtime import Runtime

MAX_WORDS = 200  # words of a text that are left out; a student reads fewer by default


def word_weights(runtime: Runtime, text: str) -> list[tuple[str, float]]:
    """The words of a text as they stand there, each with its weight; joined they are the text.

    A word's weight is how far the calibrated probability of the text's label falls when this one occurrence is left
    out: above 0 it speaks for the label, below 0 against it. White space is a piece of its own and weighs 0; so does
    every word after the first :data:`MOST`.

    Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", section 4.2.
    """
    pieces = _pieces(text, runtime.cut([text])[0])
    tried = [place for place, piece in enumerate(pieces) if not piece.isspace()][:MAX_WORDS]
    without = ["".join(pieces[:place] + pieces[place + 1 :]) for place in tried]
    found = runtime.predict_proba([text, *without])
    winner = found[0].argmax()
    weights = dict(zip(tried, (found[0, winner] - found[1:, winner]).tolist(), strict=True))
    return [(piece, weights.get(place, 0.0)) for place, piece in enumerate(pieces)]


def _pieces(text: str, words: Sequence[str]) -> list[str]:
    """The text in pieces: the student's words, and the white space that it leaves out between them.

    The words are in lower case, where one character may have become two, and those two may lie in two words.
    """
    origin = [place for place, letter in enumerate(text) for _ in letter.lower()]
    edges, at = {0, len(text)}, 0
    for word in words:
        while text[origin[at]].isspace():
            at += 1
        edges.add(origin[at])
        at += len(word)
        edges.add(origin[at] if at < len(origin) else len(text))
    return [text[begin:end] for begin, end in pairwise(sorted(edges))]
