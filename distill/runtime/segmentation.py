"""Word segmentation and word ids of packed texts; see kernels/segmentation.c."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.runtime.arrays import Arrays
from distill.runtime.constants import FORCE_SPLIT
from distill.runtime.native import check_status, library
from distill.runtime.packing import PackedTexts, pack, unpack
from distill.runtime.structs import Lexicon, Trie, TrieNode, address

CODE_POINTS = 0x110000  # in Unicode
SCORES = {"scores": np.float64, "start": np.float64, "transitions": np.float64, "emissions": np.float64}
TRIE = {"letters": np.uint32, "labels": np.uint16, "children": np.uint16, "weights": np.uint16, "words": np.int32}


class NativeSegmenter:
    """Segments texts as jieba does and looks up the ids of their words. Threads may share it.

    Args:
        arrays: the ``lexicon.`` arrays of a bundle, see :func:`distill.export.trie.lexicon_arrays`; others are ignored.

    Raises:
        ValueError: the arrays do not form a trie.
    """

    def __init__(self, arrays: Arrays) -> None:
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
        self._lexicon = Lexicon.of(trie=trie, ids=ids, **scores)
        self.struct = ctypes.byref(self._lexicon)

    def segment(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of every text, as :meth:`distill.text.segmentation.Segmenter.segment` returns them."""
        packed = pack(texts)
        lowered, (spans, counts) = unpack(packed), self.spans(packed)
        begins, ends = spans[:, 0].tolist(), spans[:, 1].tolist()
        words = iter([lowered[begin:end] for begin, end in zip(begins, ends, strict=True)])
        return [list(itertools.islice(words, count)) for count in counts.tolist()]

    def spans(self, packed: PackedTexts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Begin and end of every word in ``packed.points``, shape (words, 2), and each text's number of words."""
        spans, counts = np.empty((len(packed.points), 2), np.int64), np.empty(len(packed), np.int64)
        texts = ctypes.byref(packed.struct)
        check_status(library().distill_segment(self.struct, texts, address(spans), address(counts)))
        return spans[: counts.sum()], counts

    def encode(self, packed: PackedTexts, max_length: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Word ids of every text, as :meth:`distill.text.vocabulary.Vocabulary.encode` returns them.

        Args:
            packed: the texts.
            max_length: ids that are kept of a text, at least 1.

        Returns:
            ids, shape (texts, max_length), padded with 0; lengths, shape (texts,), each at least 1.
        """
        ids, lengths = np.zeros((len(packed), max_length), np.int32), np.empty(len(packed), np.int32)
        texts = ctypes.byref(packed.struct)
        check_status(library().distill_encode(self.struct, texts, max_length, address(ids), address(lengths)))
        return ids, lengths


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
