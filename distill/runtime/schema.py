"""The arrays of a bundle: name, type and shape of each.

Export checks the arrays that it writes, the runtime those that it reads, and docs/runtime.md shows the table. A shape
is written in terms of sizes. :func:`sizes_of` takes some sizes from the bundle's card; any other size is that of the
first array that has it as a dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError, join_problems
from distill.runtime.constants import HAN


@dataclass(frozen=True)
class ArraySpec:
    """One array.

    Args:
        name: in the bundle's safetensors file.
        dtype: as NumPy names it.
        shape: each dimension a number, a size, or a product of these, as in "4 * hidden".
        meaning: for docs/runtime.md.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    meaning: str


LEXICON = (
    ArraySpec("lexicon.letters", "uint32", ("letters",), "code points of the trie's characters, sorted"),
    ArraySpec("lexicon.labels", "uint16", ("nodes",), "last character of each node, from 1 in `letters`"),
    ArraySpec("lexicon.children", "uint16", ("nodes",), "number of children of each node"),
    ArraySpec("lexicon.weights", "uint16", ("nodes",), "index in `scores`, 0: not in the dictionary; a flag in bit 15"),
    ArraySpec("lexicon.scores", "float64", ("scores",), "log-probabilities of the dictionary's frequencies"),
    ArraySpec("lexicon.words", "int32", ("words",), "node of each word of the vocabulary"),
    ArraySpec("lexicon.start", "float64", ("4",), "hidden Markov model: log-probabilities of the first state, BMES"),
    ArraySpec("lexicon.transitions", "float64", ("4", "4"), "from a state to the next"),
    ArraySpec("lexicon.emissions", "float64", (str(len(HAN)), "4"), f"of U+{HAN[0]:X} to U+{HAN[-1]:X} in each state"),
)
WORDS = (
    ArraySpec("words", "int16", ("words", "width"), "word vectors; the first two are padding and unknown"),
    ArraySpec("words.scale", "float32", ("width",), "what each column of `words` is multiplied by"),
)
CLASSIFIER_BIAS = ArraySpec("classifier.bias", "float32", ("classes",), "bias of the classifier")
ROW_OF = ArraySpec("ngrams.row_of", "uint16", ("buckets",), "row of each bucket of hashed n-grams, 0: none")
NGRAM_LOGITS = (ArraySpec("ngrams.says", "float32", ("rows", "classes"), "what an n-gram adds to the logits"),)
NGRAM_VECTORS = (
    ArraySpec("ngrams", "int16", ("rows", "width"), "n-gram vectors"),
    ArraySpec("ngrams.scale", "float32", ("width",), "what each column of `ngrams` is multiplied by"),
)


def _direction(name: str) -> tuple[ArraySpec, ...]:
    columns = "gates * hidden"
    return (
        ArraySpec(f"input.{name}", "float32", ("width", columns), f"input weights, {name}"),
        ArraySpec(f"recurrent.{name}", "float32", ("hidden", columns), f"recurrent weights, {name}"),
        ArraySpec(f"bias.{name}", "float32", (columns,), f"sum of the biases, {name}"),
        ArraySpec(f"recurrent_bias.{name}", "float32", (columns,), f"bias within the reset gate's product, {name}"),
    )


def _classifier(features: str) -> ArraySpec:
    return ArraySpec("classifier.weight", "float32", (features, "classes"), "weights of the classifier")


# architecture -> its arrays, and those that it has for n-grams
NETWORK_ARRAYS: dict[str, tuple[tuple[ArraySpec, ...], tuple[ArraySpec, ...]]] = {
    "bilstm": ((*_direction("ahead"), *_direction("back"), _classifier("4 * hidden")), NGRAM_LOGITS),
    "textcnn": (
        (
            ArraySpec("taps", "float32", ("width", "taps * hidden"), "filters by position, the shortest span first"),
            ArraySpec("taps.bias", "float32", ("spans * hidden",), "bias of each filter"),
            _classifier("spans * hidden"),
        ),
        NGRAM_LOGITS,
    ),
    "average": (
        (
            ArraySpec("layer.bias", "float32", ("hidden",), "bias of the hidden layer"),
            ArraySpec("layer.weight", "float32", ("pools * width", "hidden"), "weights of the hidden layer"),
            _classifier("hidden"),
        ),
        NGRAM_VECTORS,
    ),
}
SIZES = {
    "classes": "number of `labels` in `bundle.json`",
    "hidden": "`network.hidden` in `bundle.json`; of `average`, units of the hidden layer",
    "gates": "4 for `network.cell` lstm, 3 for gru",
    "spans": "`network.spans` in `bundle.json`: filters span 1 to `spans` words",
    "taps": "positions of all filters: 1 + 2 + … + `spans`",
    "pools": "4 with n-grams, 2 without",
}
GATES = {"lstm": 4, "gru": 3}


def specs_of(card: Mapping[str, Any]) -> tuple[ArraySpec, ...]:
    """The arrays that a bundle with this card has; n-grams are there if ``ngram_characters`` is not 0.

    Raises:
        ValueError: the runtime has no network of this architecture.
    """
    architecture = card["network"]["architecture"]
    if architecture not in NETWORK_ARRAYS:
        raise ValueError(f"unknown network {architecture!r}, one of {', '.join(NETWORK_ARRAYS)} is needed")
    network, for_ngrams = NETWORK_ARRAYS[architecture]
    ngrams = (ROW_OF, *for_ngrams) if card["ngram_characters"] else ()
    return (*WORDS, *LEXICON, CLASSIFIER_BIAS, *network, *ngrams)


def sizes_of(card: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that the card determines.

    Raises:
        ValueError: the card's network lacks a size or has an impossible one.
    """
    network, sizes = card["network"], {"classes": len(card["labels"]), "pools": 4 if card["ngram_characters"] else 2}
    if network["architecture"] in ("bilstm", "textcnn"):
        sizes["hidden"] = _positive(network, "hidden")
    if network["architecture"] == "bilstm":
        if network.get("cell") not in GATES:
            raise ValueError(f"network.cell is {network.get('cell')!r}, lstm or gru is needed")
        sizes["gates"] = GATES[network["cell"]]
    if network["architecture"] == "textcnn":
        spans = sizes["spans"] = _positive(network, "spans")
        sizes["taps"] = spans * (spans + 1) // 2
    return sizes


def _positive(network: Mapping[str, Any], name: str) -> int:
    value = network.get(name)
    if type(value) is not int or value < 1:
        raise ValueError(f"network.{name} is {value!r}, a whole number above 0 is needed")
    return value


def problems(card: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """What is wrong with the arrays of a bundle: those that are missing or have another type or shape.

    Arrays that the schema does not have are ignored.

    Raises:
        ValueError: the card's network is unknown or lacks a size.
    """
    sizes, specs = sizes_of(card), specs_of(card)
    for spec in specs:
        shape = arrays[spec.name].shape if spec.name in arrays else ()
        for dimension, size in zip(spec.shape, shape, strict=False):
            if dimension.isidentifier():
                sizes.setdefault(dimension, size)
    return [problem for spec in specs if (problem := _problem(spec, arrays.get(spec.name), sizes))]


def _problem(spec: ArraySpec, array: NDArray[Any] | None, sizes: Mapping[str, int]) -> str:
    """What is wrong with one array; empty if nothing is."""
    shape = tuple(_value(dimension, sizes) for dimension in spec.shape)
    wanted = f"{spec.dtype} {_shown(shape, spec.shape)} is needed"
    if array is None:
        return f"array {spec.name} is missing, {wanted}"
    if array.dtype.newbyteorder("=") == np.dtype(spec.dtype) and array.shape == shape:
        return ""
    return f"array {spec.name} is {array.dtype.name} {array.shape}, {wanted}"


def _value(dimension: str, sizes: Mapping[str, int]) -> int | None:
    """A dimension as a number; None if it depends on an unknown size."""
    value = 1
    for factor in dimension.split(" * "):
        if not factor.isdecimal() and factor not in sizes:
            return None
        value *= int(factor) if factor.isdecimal() else sizes[factor]
    return value


def _shown(shape: tuple[int | None, ...], names: tuple[str, ...]) -> str:
    """A shape as NumPy writes it; an unknown dimension is shown by its name."""
    shown = [name if value is None else str(value) for value, name in zip(shape, names, strict=True)]
    return f"({', '.join(shown)}{',' * (len(shown) == 1)})"


def check(card: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], where: object, hint: str) -> None:
    """Refuse a bundle whose arrays do not match the schema.

    Raises:
        UserError: names the first problems: the array, what is needed and what was found.
    """
    try:
        messages = problems(card, arrays)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"this bundle is broken: {error}", where, hint) from error
    if messages:
        raise UserError(f"this bundle is broken: {join_problems(messages, 3)}", where, hint)
