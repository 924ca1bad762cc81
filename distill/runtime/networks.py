"""The registry of networks, and the network of a bundle with its classifier; see kernels/student.c.

A new network is a module like ``average`` (which fills in the struct of a kernel like ``kernels/average.c``) and a line
in ``NETWORKS``; :mod:`distill.runtime.schema` describes its arrays.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.runtime.arrays import Arrays, Floats, pad_axis
from distill.runtime.average import average
from distill.runtime.dense import dense_layer
from distill.runtime.native import check_status, forward_pass, lanes, library
from distill.runtime.recurrent import recurrent
from distill.runtime.structs import EncodedTexts, StudentModel, address
from distill.runtime.textcnn import textcnn

NETWORKS = {"bilstm": recurrent, "textcnn": textcnn, "average": average}  # by the architecture in a bundle's card


def encoded_texts(
    ids: NDArray[np.int32], lengths: NDArray[np.int32], ngram_rows: NDArray[np.int32], ngram_starts: NDArray[np.int64]
) -> EncodedTexts:
    """Texts as ids, for the kernels.

    Args:
        ids: of the words, shape (texts, max_length).
        lengths: how many ids of each text are used, shape (texts,).
        ngram_rows: of all texts' n-grams, shape (n-grams,).
        ngram_starts: where each text's rows begin, shape (texts + 1,).
    """
    return EncodedTexts.of(
        ids=ids,
        lengths=lengths,
        ngram_rows=ngram_rows,
        ngram_starts=ngram_starts,
        count=len(ids),
        max_length=ids.shape[1],
    )


class StudentNetwork:
    """A student's network and classifier: ids in, logits out. Threads may share it.

    Args:
        card: the ``network`` of a bundle's card.
        arrays: the bundle's arrays.
    """

    def __init__(self, card: Mapping[str, Any], arrays: Arrays) -> None:
        network = NETWORKS[card["architecture"]](card, arrays)
        weight, ngram_logits = arrays["classifier.weight"], arrays.get("ngrams.says")
        self.classes = weight.shape[1]
        parts = pad_axis(weight.reshape(-1, network.part_features, self.classes), 1, 2 * lanes())
        classifier = dense_layer(parts.reshape(-1, self.classes), arrays["classifier.bias"])
        forward = forward_pass(network.forward_pass)
        self._student = StudentModel.of(
            forward=ctypes.cast(forward, ctypes.c_void_p).value,
            network=ctypes.addressof(network.struct),
            pooled_width=network.width,
            sorts_texts=network.sorts_texts,
            hidden=network.hidden,
            classifier=classifier,
            classes=self.classes,
            **({} if ngram_logits is None else {"ngram_logits": np.pad(ngram_logits.ravel(), (0, lanes()))}),
        ).keep_alive(network)
        self._padded_classes = int(classifier.out)
        self.struct = ctypes.byref(self._student)

    def logits(self, texts: EncodedTexts) -> Floats:
        """Logits, shape (texts, classes)."""
        logits = self.logits_buffer(texts.count)
        check_status(library().distill_logits_of_ids(self.struct, ctypes.byref(texts), address(logits)))
        return logits[:, : self.classes]

    def logits_buffer(self, texts: int) -> Floats:
        """An uninitialised array for logits; its columns beyond the classes are padding."""
        return np.empty((texts, self._padded_classes), np.float32)
