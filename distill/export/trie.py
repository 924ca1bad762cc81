"""The lexicon of a bundle: jieba's dictionary and hidden Markov model, and the student's vocabulary, as arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.constants import FORCE_SPLIT, HAN, SCORE_MASK
from distill.text.segmentation import JiebaTables
from distill.text.vocabulary import UNKNOWN_ID, Vocabulary

STATES = "BMES"  # of jieba's hidden Markov model: a character begins a word, is in its middle, ends it, is one
IMPOSSIBLE = -3.14e100  # log-probability of what jieba's tables do not contain
MAX_SCORES = SCORE_MASK  # distinct frequencies: their indices share 16 bits with flags
MAX_CHILDREN = 0xFFFF  # of a node, and distinct characters: stored in 16 bits


def lexicon_arrays(vocabulary: Vocabulary, tables: JiebaTables) -> dict[str, NDArray[np.generic]]:
    """The trie of all words, jieba's hidden Markov model and the vocabulary's ids; about 4 MB.

    A node is a word or the beginning of one. The nodes are in breadth-first order: the single characters, then by
    length, parent and character, numbered from 1. A word that only the vocabulary has gets no score, so it does not
    change how jieba segments.

    Returns:
        Arrays by name, each with the prefix ``lexicon.``:
        ``letters`` (characters,) uint32: code points of the single characters, sorted;
        ``labels`` (nodes,) uint16: a node's last character, counted from 1 in ``letters``;
        ``children`` (nodes,) uint16: a node's number of children;
        ``weights`` (nodes,) uint16: index in ``scores``, 0 if jieba does not know the word, and ``FORCE_SPLIT``;
        ``scores`` (frequencies + 1,) float64: log(frequency / total); the first is for unknown characters;
        ``words`` (vocabulary,) int32: node of each word, 0 for padding and unknown;
        ``start`` (4,), ``transitions`` (4, 4), ``emissions`` (Han characters, 4), float64, states in the order BMES.

    Raises:
        UserError: the user's dictionary has too many distinct characters or frequencies for these types.
    """
    nodes = _nodes(tables, vocabulary)
    node_numbers = {node: number for number, node in enumerate(nodes, 1)}
    weights, scores = _weights(nodes, tables)
    letters = [node for node in nodes if len(node) == 1]
    parents = np.fromiter((node_numbers[node[:-1]] for node in nodes[len(letters) :]), np.int64)
    children = np.bincount(parents, minlength=len(nodes) + 1)[1:]
    _check_sizes(len(letters), len(scores))
    arrays: dict[str, NDArray[np.generic]] = {
        "letters": np.array([ord(letter) for letter in letters], np.uint32),
        "labels": np.fromiter((node_numbers[node[-1]] for node in nodes), np.uint16, len(nodes)),
        "children": children.astype(np.uint16),
        "weights": weights,
        "scores": scores,
        "words": _word_nodes(vocabulary, node_numbers),
        **_hidden_markov_model(tables),
    }
    return {f"lexicon.{name}": array for name, array in arrays.items()}


def _nodes(tables: JiebaTables, vocabulary: Vocabulary) -> list[str]:
    """All words, their beginnings and their characters, by length, then by code points."""
    nodes = {word[:end] for word in vocabulary.words[UNKNOWN_ID + 1 :] for end in range(1, len(word) + 1)}
    nodes.update(tables.frequencies)  # includes the beginnings of its words
    nodes.update("".join(nodes))
    return sorted(sorted(nodes), key=len)


def _weights(nodes: list[str], tables: JiebaTables) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Index of each node's score, with flags, and the scores: computed as jieba does, so that sums are equal bits."""
    frequencies = [tables.frequencies.get(node, 0) for node in nodes]
    distinct = [0, *sorted(set(frequencies) - {0})]
    index_by_frequency = {frequency: index for index, frequency in enumerate(distinct)}
    log_total = math.log(tables.total)
    scores = [math.log(frequency or 1) - log_total for frequency in distinct]
    weights = np.fromiter((index_by_frequency[frequency] for frequency in frequencies), np.uint32, len(nodes))
    weights |= np.fromiter((FORCE_SPLIT * (node in tables.split) for node in nodes), np.uint32, len(nodes))
    return weights.astype(np.uint16), np.array(scores)


def _check_sizes(letters: int, scores: int) -> None:
    if letters > MAX_CHILDREN or scores > MAX_SCORES:
        what = f"{letters} distinct characters and {scores} distinct frequencies in jieba's and the user's words"
        raise UserError(what, "--user_dict", f"at most {MAX_CHILDREN} and {MAX_SCORES} fit")


def _word_nodes(vocabulary: Vocabulary, node_numbers: Mapping[str, int]) -> NDArray[np.int32]:
    """Node of each word of the vocabulary; of a repeated word only the last has its node, as in ``vocabulary.ids``."""
    word_nodes = np.zeros(len(vocabulary), np.int32)
    for word, index in vocabulary.ids.items():
        word_nodes[index] = node_numbers.get(word, 0) if index > UNKNOWN_ID else 0
    return word_nodes


def _hidden_markov_model(tables: JiebaTables) -> dict[str, NDArray[np.generic]]:
    """Log-probabilities of start states, transitions and emissions."""
    emissions = np.full((len(HAN), len(STATES)), IMPOSSIBLE)
    for column, state in enumerate(STATES):
        for letter, score in tables.emissions[state].items():
            if ord(letter) in HAN:
                emissions[ord(letter) - HAN.start, column] = score
    transitions = [[tables.transitions[state].get(following, IMPOSSIBLE) for following in STATES] for state in STATES]
    return {
        "start": np.array([tables.start[state] for state in STATES]),
        "transitions": np.array(transitions),
        "emissions": emissions,
    }
