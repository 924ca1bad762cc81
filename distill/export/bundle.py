"""A trained student as a bundle: its weights as plain arrays, n-grams folded into what they say, jieba's dictionary."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import nn

from distill.errors import UserError
from distill.export.trie import lexicon_arrays
from distill.models.average import Average
from distill.models.bilstm import BiLSTM
from distill.models.encoders import CHARACTERS
from distill.models.registry import CARD as STUDENT_CARD
from distill.models.registry import Words, load_student_parts
from distill.models.student import Student
from distill.models.textcnn import TextCNN
from distill.runtime.bundle import ARRAYS, CARD, FORMAT, checksum
from distill.storage.atomic import write_file, write_folder, write_json
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import UNKNOWN_ID, Vocabulary

Arrays = dict[str, NDArray[Any]]


def export_bundle(student: Path, bundle: Path, max_bytes: float = math.inf, segmenter: Segmenter | None = None) -> Path:
    """Write the bundle of the student in a folder; it replaces what is there once it is whole.

    A bundle of more than ``max_bytes`` loses the last words of its vocabulary, which are the rarest: in a text they are
    then read as their characters, as all words are that a student does not know. The bundle contains the tables of
    ``segmenter`` (None: jieba without a user dictionary), which must be the one of the student's training.

    Raises:
        UserError: there is no student, it is a textgcn, which knows no texts but those of its graph, or it is too
            large without any words.
    """
    model, words, labels, temperature = load_student_parts(student, segmenter)
    if not isinstance(model, Student) or not isinstance(words, Words):
        what = "a textgcn answers only for the texts of its graph, so it cannot be shipped"
        raise UserError(what, student, "--student bilstm, taught by it: --teacher FOLDER")
    _check_segmenter(student, words.segmenter)
    network, arrays = bundle_arrays(model)
    arrays = _within(arrays, words, max_bytes)
    card = {
        "format": FORMAT,
        "network": network,
        "labels": list(labels),
        "temperature": temperature,
        "max_length": words.max_length,
        "ngram_characters": CHARACTERS * words.max_length if words.ngrams else 0,
        "segmenter": words.segmenter.identity,
    }
    with write_folder(bundle) as temporary:
        write_file(temporary / ARRAYS, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))
        write_json(temporary / CARD, card | {"files": {ARRAYS: checksum(temporary / ARRAYS)}})
    return bundle


def _within(arrays: Arrays, words: Words, max_bytes: float) -> Arrays:
    """All arrays of the bundle, with as many words as fit."""
    vocabulary, tables = words.vocabulary, words.segmenter.tables
    whole = arrays | lexicon_arrays(vocabulary, tables)
    size = sum(array.nbytes for array in whole.values())
    if size <= max_bytes:
        return whole
    per_word = arrays["words"][0].nbytes + whole["lexicon.words"][0].nbytes
    count = len(vocabulary) - math.ceil((size - max_bytes) / per_word)
    if count <= UNKNOWN_ID + 1:
        what = f"{(size - per_word * len(vocabulary)) / 1e6:.1f} MB are needed beside the words"
        raise UserError(what, "--max_mb", "--max_mb 20, or 0 for no limit")
    fewer = Vocabulary(vocabulary.words[:count])
    return arrays | {"words": arrays["words"][:count]} | lexicon_arrays(fewer, tables)


def _check_segmenter(student: Path, segmenter: Segmenter) -> None:
    """The bundle gets the tables of this segmenter: they must be those of training."""
    trained = json.loads((student / STUDENT_CARD).read_text(encoding="utf-8"))["segmenter"]
    if mismatch := segmenter.mismatch(trained):
        raise UserError(mismatch, student, "give the same --user_dict and version of jieba, or train it again")


def bundle_arrays(model: Student) -> tuple[dict[str, Any], Arrays]:
    """What the runtime must know of a network, and its arrays."""
    weights: Arrays = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
    arrays: Arrays = _quantised("words", weights["embedding.weight"])
    classifier = weights["classifier.weight"].T  # (features, classes)
    arrays["classifier.bias"] = weights["classifier.bias"]
    match model:
        case BiLSTM():
            more = _recurrent(model, weights)
            card = {"architecture": "bilstm", "hidden": model.config.hidden, "cell": model.config.cell}
            card["sentence"] = model.config.sentence
        case TextCNN():
            more = _convolutions(model)
            card = {"architecture": "textcnn", "hidden": model.config.hidden, "spans": len(model.config.spans)}
        case Average():
            more = {"layer.weight": weights["layer.weight"].T, "layer.bias": weights["layer.bias"]}
            card = {"architecture": "average"}
        case _:
            raise ValueError(f"no way to ship {type(model).__name__}")
    if model.ngrams is not None:
        more |= _ngrams(model, weights, classifier[-model.ngram_width :])
    own = len(classifier) - (0 if isinstance(model, Average) else model.ngram_width)
    return card, {**arrays, **more, "classifier.weight": classifier[:own]}


def _quantised(name: str, table: NDArray[np.float32]) -> Arrays:
    """A table in 16 bits with a scale for each column."""
    scale = np.maximum(np.abs(table).max(axis=0) / 32767, 1e-12).astype(np.float32)
    return {name: np.rint(table / scale).astype(np.int16), f"{name}.scale": scale}


def _ngrams(model: Student, weights: Arrays, classifier: NDArray[np.float32]) -> Arrays:
    """The n-grams' vectors; where only the classifier sees their mean, what each says of the classes instead."""
    rows, table = weights["ngrams.row_of"], weights["ngrams.table.weight"]
    if len(table) > 2**16:
        raise UserError(f"{len(table)} n-gram vectors, 65536 are the most", None, "--ngrams with a smaller number")
    mapped = {"ngrams.row_of": rows.astype(np.uint16)}
    return mapped | (_quantised("ngrams", table) if isinstance(model, Average) else {"ngrams.says": table @ classifier})


def _recurrent(model: BiLSTM, weights: Arrays) -> Arrays:
    """Input weights (width, gates x hidden), recurrent weights (hidden, gates x hidden) and biases, each direction."""
    arrays: Arrays = {}
    for name, suffix in (("ahead", ""), ("back", "_reverse")):
        given, own = (weights[f"lstm.bias_{part}_l0{suffix}"].copy() for part in ("ih", "hh"))
        inside = np.zeros_like(own)  # a GRU's new gate multiplies its recurrent part by the reset gate, bias and all
        if model.config.cell == "gru":
            inside[-model.config.hidden :] = own[-model.config.hidden :]
        arrays[f"input.{name}"] = weights[f"lstm.weight_ih_l0{suffix}"].T
        arrays[f"recurrent.{name}"] = weights[f"lstm.weight_hh_l0{suffix}"].T
        arrays[f"bias.{name}"] = given + own - inside
        arrays[f"recurrent_bias.{name}"] = inside
    return arrays


def _convolutions(model: TextCNN) -> Arrays:
    """What a word adds to every filter at each place of it: (width, places x hidden), span 1's place first."""
    convolutions: list[nn.Conv1d] = list(model.convolutions)  # type: ignore[arg-type]
    taps = [layer.weight.detach().numpy().transpose(1, 2, 0).reshape(layer.in_channels, -1) for layer in convolutions]
    biases = [layer.bias.detach().numpy() for layer in convolutions if layer.bias is not None]
    return {"taps": np.concatenate(taps, axis=1), "taps.bias": np.concatenate(biases)}
