"""jieba's dictionary and hidden Markov model, and the vocabulary, for the kernels; see kernels/segmentation.h."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distill.runtime.arrays import Arrays
from distill.runtime.constants import FORCE_SPLIT
from distill.runtime.native import library
from distill.runtime.structs import Lexicon, Trie, TrieNode, address

CODE_POINTS = 0x110000  # in Unicode
SCORES = {"scores": np.float64, "start": np.float64, "transitions": np.float64, "emissions": np.float64}
TRIE = {"letters": np.uint32, "labels": np.uint16, "children": np.uint16, "weights": np.uint16, "words": np.int32}


def lexicon_of(arrays: Arrays) -> Lexicon:
    """The lexicon of a bundle.

    Args:
        arrays: its ``lexicon.`` arrays, see :func:`distill.export.trie.lexicon_arrays`; others are ignored.

    Raises:
        ValueError: the arrays do not form a trie.
    """
    scores = {name: np.array(arrays[f"lexicon.{name}"], dtype, order="C") for name, dtype in SCORES.items()}
    lexicon = {name: np.require(arrays[f"lexicon.{name}"], dtype, ("C", "A")) for name, dtype in TRIE.items()}
    nodes, hash_bits, node_numbers = _build_trie(lexicon)
    if (lexicon["weights"] & ~np.uint16(FORCE_SPLIT)).max(initial=0) >= len(scores["scores"]):
        raise ValueError("the lexicon's weights point outside its scores")
    char_count = len(lexicon["letters"])
    node_by_char = np.zeros(CODE_POINTS, np.uint16)
    node_by_char[lexicon["letters"]] = np.arange(1, char_count + 1)
    ids = np.zeros(len(nodes), np.int32)
    ids[node_numbers[lexicon["words"]]] = np.arange(len(lexicon["words"]))
    ids[0] = 0  # node 0 stands for padding and unknown, which have no node
    trie = Trie.of(node_by_char=node_by_char, nodes=nodes, char_count=char_count, hash_bits=hash_bits)
    return Lexicon.of(trie=trie, ids=ids, **scores)


def _build_trie(lexicon: Arrays) -> tuple[NDArray[np.void], int, NDArray[np.uint32]]:
    """The nodes as kernels/trie.h stores them, ``hash_bits``, and the index among them of each node of the bundle."""
    char_count, node_count = len(lexicon["letters"]), len(lexicon["labels"])
    hash_bits = (2 * node_count).bit_length()  # at most half of the slots are used
    nodes = np.zeros(char_count + 1 + 2**hash_bits, np.dtype(TrieNode))
    node_numbers = np.empty(node_count + 1, np.uint32)
    listed = (address(lexicon[name]) for name in ("labels", "children", "weights"))
    if library().distill_build_trie(address(nodes), char_count, hash_bits, *listed, node_count, address(node_numbers)):
        raise ValueError("the lexicon is not a trie in breadth-first order")
    return nodes, hash_bits, node_numbers
