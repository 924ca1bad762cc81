"""Explain a prediction by occlusion: leave out each word once and see how the label's probability changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from distill.runtime import Runtime
from distill.runtime.packing import without_zero_width
from distill.runtime.tasks import outputs_of

MAX_WORDS = 200  # words of a text that are weighed; by default a student reads fewer
TEXTS_PER_CHECK = 32  # texts that are classified between two checks of the deadline
EVERY = slice(None)


def word_weights(
    runtime: Runtime, text: str, check: Callable[[], object] = lambda: None, outputs: slice = EVERY
) -> list[tuple[str, float]]:
    """The words of ``text`` with their weights; joined, the words are the text.

    A word's weight is by how much the calibrated probability of the most probable label falls when this one occurrence
    is left out: positive if the word supports the label, negative if it speaks against it. White space is a piece of
    its own with weight 0; words after the first :data:`MAX_WORDS` get weight 0 too. ``check`` is called between parts
    of the work and may raise an exception to end it. The label is one of a task's ``outputs``.

    Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", arXiv 1311.2901, section 4.2.
    """
    pieces = _pieces(text, runtime.segment([text])[0])
    weighed = [index for index, piece in enumerate(pieces) if not piece.isspace()][:MAX_WORDS]
    occluded = ["".join(pieces[:index] + pieces[index + 1 :]) for index in weighed]
    texts, parts, predict_proba = [text, *occluded], [], outputs_of(runtime)
    for first in range(0, len(texts), TEXTS_PER_CHECK):
        check()
        parts.append(predict_proba(texts[first : first + TEXTS_PER_CHECK]))
    probabilities = np.concatenate(parts)[:, outputs]
    label = probabilities[0].argmax()
    weights = dict(zip(weighed, (probabilities[0, label] - probabilities[1:, label]).tolist(), strict=True))
    return [(piece, weights.get(index, 0.0)) for index, piece in enumerate(pieces)]


def _pieces(text: str, words: Sequence[str]) -> list[str]:
    """Split ``text`` into the student's words and the white space between them, which the student drops.

    Zero-width characters stay where they are. ``words`` are in lower case, where one character may have become two,
    and these two may belong to two words.
    """
    visible = map(without_zero_width, text)
    origin = [
        index for index, char in enumerate(visible) for _ in char.lower()
    ]  # position in lower case -> in the text
    boundaries, position = {0, len(text)}, 0
    for word in words:
        while text[origin[position]].isspace():
            position += 1
        boundaries.add(origin[position])
        position += len(word)
        boundaries.add(origin[position] if position < len(origin) else len(text))
    return [text[begin:end] for begin, end in pairwise(sorted(boundaries))]
