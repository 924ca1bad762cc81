"""What cuts texts and numbers words, as arrays: the tables of jieba and the student's vocabulary, for the runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.text.segmentation import JiebaTables
from distill.text.vocabulary import UNKNOWN_ID, Vocabulary

STATES = "BMES"  # of jieba's hidden Markov model
HAN = range(0x4E00, 0x9FD6)  # the characters that the model knows, as jieba has them
IMPOSSIBLE = -3.14e100  # log-probability of what jieba's tables lack
SPLIT = 0x8000  # beside a word's weight: the model must not make this word
MOST_SCORES = 0x3FFF  # the kernels keep a bit of their own beside a weight
MOST_CHILDREN = 0xFFFF  # of a node, and distinct characters


def lexicon_arrays(vocabulary: Vocabulary, tables: JiebaTables) -> dict[str, NDArray[np.generic]]:
    """The trie of all words, jieba's hidden Markov model and the vocabulary's ids; about 4 MB.

    The nodes are in breadth-first order: every single character first, then by length, parent and character. They are
    numbered from 1. A word of the vocabulary that jieba does not know has no weight, so it changes no cut.

    Returns:
        Names beginning with ``lexicon.``: ``letters`` (characters,) uint32: the single characters' code points,
        sorted; ``labels`` (nodes,) uint16: a node's last character, counted from 1 in ``letters``; ``children``
        (nodes,) uint16; ``weights`` (nodes,) uint16: place in ``scores``, 0 where it is no word of jieba's, and
        ``SPLIT``; ``scores`` (frequencies + 1,) float64: log(frequency / total), first that of an unknown character;
        ``words`` (vocabulary,) int32: node of each word, 0 for padding and unknown; ``start`` (4,), ``transitions``
        (4, 4) and ``emissions`` (Han characters, 4), float64, states in the order BMES.

    Raises:
        UserError: the user's dictionary is too varied for these types.
    """
    names = _nodes(tables, vocabulary)
    numbers = {name: number for number, name in enumerate(names, 1)}
    weights, scores = _weights(names, tables)
    letters = [name for name in names if len(name) == 1]
    parents = np.fromiter((numbers[name[:-1]] for name in names[len(letters) :]), np.int64)
    children = np.bincount(parents, minlength=len(names) + 1)[1:]
    _check(len(letters), len(scores))
    arrays: dict[str, NDArray[np.generic]] = {
        "letters": np.array([ord(letter) for letter in letters], np.uint32),
        "labels": np.fromiter((numbers[name[-1]] for name in names), np.uint16, len(names)),
        "children": children.astype(np.uint16),
        "weights": weights,
        "scores": scores,
        "words": _words(vocabulary, numbers),
        **_model(tables),
    }
    return {f"lexicon.{name}": array for name, array in arrays.items()}


def _nodes(tables: JiebaTables, vocabulary: Vocabulary) -> list[str]:
    """All words, their beginnings and their characters, the shortest first, then by code point."""
    names = {word[:end] for word in vocabulary.words[UNKNOWN_ID + 1 :] for end in range(1, len(word) + 1)}
    names.update(tables.frequencies)  # every beginning of a word is there already
    names.update("".join(names))
    return sorted(sorted(names), key=len)


def _weights(names: list[str], tables: JiebaTables) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Place of every node's score, and the scores, computed as jieba does: the sums of a route are the same bits."""
    frequencies = [tables.frequencies.get(name, 0) for name in names]
    distinct = [0, *sorted(set(frequencies) - {0})]
    places = {frequency: place for place, frequency in enumerate(distinct)}
    total = math.log(tables.total)
    scores = [math.log(frequency or 1) - total for frequency in distinct]
    weights = np.fromiter((places[frequency] for frequency in frequencies), np.uint32, len(names))
    weights |= np.fromiter((SPLIT * (name in tables.split) for name in names), np.uint32, len(names))
    return weights.astype(np.uint16), np.array(scores)


def _check(letters: int, scores: int) -> None:
    if letters > MOST_CHILDREN or scores > MOST_SCORES:
        what = f"{letters} distinct characters and {scores} distinct frequencies in jieba's and the user's words"
        raise UserError(what, "--user_dict", f"at most {MOST_CHILDREN} and {MOST_SCORES} fit")


def _words(vocabulary: Vocabulary, numbers: Mapping[str, int]) -> NDArray[np.int32]:
    """Node of every word; of a word that stands there twice the last, as in the vocabulary's own table."""
    nodes = np.zeros(len(vocabulary), np.int32)
    for word, index in vocabulary.ids.items():
        nodes[index] = numbers.get(word, 0) if index > UNKNOWN_ID else 0
    return nodes


def _model(tables: JiebaTables) -> dict[str, NDArray[np.generic]]:
    emissions = np.full((len(HAN), len(STATES)), IMPOSSIBLE)
    for column, state in enumerate(STATES):
        for letter, score in tables.emissions[state].items():
            if ord(letter) in HAN:
                emissions[ord(letter) - HAN.start, column] = score
    transitions = [[tables.transitions[one].get(other, IMPOSSIBLE) for other in STATES] for one in STATES]
    return {
        "start": np.array([tables.start[state] for state in STATES]),
        "transitions": np.array(transitions),
        "emissions": emissions,
    }
