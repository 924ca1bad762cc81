"""The schema of a bundle: its card, and name, type, shape and values of each array.

Export checks what it writes, the runtime what it reads, and docs/runtime.md shows the tables. The runtime checks a
bundle before it hands any address to the kernels, which trust every size and every index.

Shapes and values are written in terms of sizes. :func:`sizes_of` takes some sizes from the bundle's card; any other
size is that of the first array that has it as a dimension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError, join_problems
from distill.runtime.constants import FORCE_SPLIT, HAN, SCORE_MASK
from distill.runtime.tasks import flat_labels, tasks_of

# The largest absolute values. Products and sums of numbers up to these, in arrays of the sizes below, stay finite.
FLOAT_LIMITS = {"float32": 1e6, "float64": 1e200}
MAX_EXAMPLES, MAX_EXAMPLE_CHARACTERS = 20, 200  # texts that the web page offers
MIN_ALTERNATIVES, CONTROL = 2, "Cc"  # labels of a task without thresholds; Unicode's category of control characters
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e6
ONE_LABEL, ANY_LABELS, SEVERAL_TASKS = 1, 2, 3  # formats: how many labels a text gets, or that there are tasks


@dataclass(frozen=True)
class ArraySpec:
    """One array.

    Args:
        name: in the bundle's safetensors file.
        dtype: as NumPy names it; several are joined by " or ".
        shape: each dimension a number, a size, or a product of these, as in "4 * hidden".
        meaning: for docs/runtime.md.
        values: smallest and largest value, whole numbers; the largest may be a size, or a size "- 1". Empty: any
            integer, or the range of ``FLOAT_LIMITS``.
        flags: bits that do not count as part of a value.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    meaning: str
    values: tuple[str, str] | tuple[()] = ()
    flags: int = 0

    @property
    def range(self) -> str:
        """The values, for docs/runtime.md."""
        if self.dtype in FLOAT_LIMITS and not self.values:
            return f"finite, up to ±{FLOAT_LIMITS[self.dtype]:g}".replace("+0", "").replace("+", "")
        return " to ".join(self.values) or "any"


LEXICON = (
    ArraySpec(
        "lexicon.letters", "uint32", ("letters",), "code points of the trie's characters, ascending", ("0", "1114111")
    ),
    ArraySpec(
        "lexicon.labels", "uint16", ("nodes",), "last character of each node, from 1 in `letters`", ("1", "letters")
    ),
    ArraySpec("lexicon.children", "uint16", ("nodes",), "number of children of each node", ("0", "nodes")),
    ArraySpec(
        "lexicon.weights",
        "uint16",
        ("nodes",),
        "index in `scores`, 0: not in the dictionary; a flag in bit 15",
        ("0", "scores - 1"),
        FORCE_SPLIT,
    ),
    ArraySpec("lexicon.scores", "float64", ("scores",), "log-probabilities of the dictionary's frequencies"),
    ArraySpec("lexicon.words", "int32", ("words",), "node of each word of the vocabulary, 0: none", ("0", "nodes")),
    ArraySpec("lexicon.start", "float64", ("4",), "hidden Markov model: log-probabilities of the first state, BMES"),
    ArraySpec("lexicon.transitions", "float64", ("4", "4"), "from a state to the next"),
    ArraySpec("lexicon.emissions", "float64", (str(len(HAN)), "4"), f"of U+{HAN[0]:X} to U+{HAN[-1]:X} in each state"),
)
SCALE = ("0", f"{FLOAT_LIMITS['float32']:.0f}")  # the sign is the integer's
WORDS = (
    ArraySpec("words", "int16 or int8", ("words", "width"), "word vectors; the first two are padding and unknown"),
    ArraySpec("words.scale", "float32", ("width",), "what each column of `words` is multiplied by", SCALE),
)
CLASSIFIER_BIAS = ArraySpec("classifier.bias", "float32", ("classes",), "bias of the classifier")
ROW_OF = ArraySpec(
    "ngrams.row_of", "uint16", ("buckets",), "row of each bucket of hashed n-grams, 0: none", ("0", "rows - 1")
)
NGRAM_LOGITS = (ArraySpec("ngrams.says", "float32", ("rows", "classes"), "what an n-gram adds to the logits"),)
NGRAM_VECTORS = (
    ArraySpec("ngrams", "int16", ("rows", "width"), "n-gram vectors"),
    ArraySpec("ngrams.scale", "float32", ("width",), "what each column of `ngrams` is multiplied by", SCALE),
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


def _elementwise(window: str = "", state_weights: bool = False) -> tuple[ArraySpec, ...]:
    specs, columns = [], "gates * hidden"
    for name in ("ahead", "back"):
        specs.append(ArraySpec(f"input.{name}", "float32", (f"{window}width", columns), f"input weights, {name}"))
        specs.append(ArraySpec(f"bias.{name}", "float32", (columns,), f"biases, {name}"))
        what = f"weights of a unit's own state in its forget and reset gates, {name}"
        specs += [ArraySpec(f"state.{name}", "float32", ("2", "hidden"), what)] if state_weights else []
    return (*specs, _classifier("4 * hidden"))


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
# the cells of a bilstm that have other arrays
CELL_ARRAYS = {
    "mingru": _elementwise(),
    "sru": _elementwise(state_weights=True),
    "qrnn": _elementwise(window="2 * "),
}


@dataclass(frozen=True)
class Size:
    """A size: what it is, for docs/runtime.md, and the smallest and largest number that it may be."""

    meaning: str
    low: int
    high: int


SIZES = {
    "classes": Size("number of `labels` in `bundle.json`", 1, 2**16),
    "hidden": Size("`network.hidden` in `bundle.json`; of `average`, units of the hidden layer", 1, 2**14),
    "gates": Size("4 for `network.cell` lstm, 2 for mingru, 3 for the others", 2, 4),
    "spans": Size("`network.spans` in `bundle.json`: filters span 1 to `spans` words", 1, 16),
    "taps": Size("positions of all filters: 1 + 2 + … + `spans`", 1, 136),
    "pools": Size("4 with n-grams, 2 without", 2, 4),
    "words": Size("words of the vocabulary, with padding and unknown", 2, 2**24),
    "width": Size("dimensions of a word vector", 1, 2**14),
    "letters": Size("characters of the trie", 1, 2**16 - 1),
    "nodes": Size("nodes of the trie; the first are its `letters`", 1, 2**26),
    "scores": Size("distinct frequencies of the dictionary, and 0", 1, SCORE_MASK + 1),
    "buckets": Size("buckets of hashed n-grams", 2, 2**24),
    "rows": Size("rows of the n-gram table; the first is padding", 1, 2**16),
    "max_length": Size("in `bundle.json`: words that are read of a text", 1, 2**20),
    "ngram_characters": Size("in `bundle.json`: characters that n-grams are taken from, 0: no n-grams", 0, 2**22),
}
GATES = {"lstm": 4, "gru": 3, "mingru": 2, "sru": 3, "qrnn": 3}


def specs_of(card: Mapping[str, Any]) -> tuple[ArraySpec, ...]:
    """The arrays that a bundle with this card has; n-grams are there if ``ngram_characters`` is not 0.

    Raises:
        ValueError: the runtime has no network of this architecture.
    """
    architecture = _architecture(card)
    network, for_ngrams = NETWORK_ARRAYS[architecture]
    if architecture == "bilstm":
        network = CELL_ARRAYS.get(card["network"].get("cell"), network)
    ngrams = (ROW_OF, *for_ngrams) if card["ngram_characters"] else ()
    return (*WORDS, *LEXICON, CLASSIFIER_BIAS, *network, *ngrams)


def sizes_of(card: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that the card determines.

    Raises:
        ValueError: the card's network lacks a size or has an impossible one.
    """
    architecture, network = _architecture(card), card["network"]
    sizes = {"classes": len(card["labels"]), "pools": 4 if card["ngram_characters"] else 2}
    if architecture in ("bilstm", "textcnn"):
        sizes["hidden"] = _whole_number(network.get("hidden"), "network.hidden", SIZES["hidden"])
    if architecture == "bilstm":
        cell, sentence = network.get("cell"), network.get("sentence")
        if not isinstance(cell, str) or cell not in GATES:
            raise ValueError(f"network.cell is {_shown(cell)}, one of {', '.join(GATES)} is needed")
        if not isinstance(sentence, bool) or (sentence and cell in CELL_ARRAYS):
            needed = "false" if cell in CELL_ARRAYS else "true or false"
            raise ValueError(f"network.sentence is {_shown(sentence)}, {needed} is needed")
        sizes["gates"] = GATES[cell]
    if architecture == "textcnn":
        spans = sizes["spans"] = _whole_number(network.get("spans"), "network.spans", SIZES["spans"])
        sizes["taps"] = spans * (spans + 1) // 2
    return sizes


def _architecture(card: Mapping[str, Any]) -> str:
    network = card["network"]
    if not isinstance(network, dict):
        raise ValueError(f"network is {_shown(network)}, an object is needed")
    architecture = network.get("architecture")
    if not isinstance(architecture, str) or architecture not in NETWORK_ARRAYS:
        raise ValueError(f"unknown network {_shown(architecture)}, one of {', '.join(NETWORK_ARRAYS)} is needed")
    return architecture


def check_card(card: Mapping[str, Any]) -> None:
    """Check what the card says besides its network, which :func:`sizes_of` checks.

    Raises:
        ValueError: a field has another type or an impossible value.
    """
    _check_labels(card["labels"])
    temperature = card["temperature"]
    if type(temperature) not in (int, float) or not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        needed = f"a number from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:g} is needed"
        raise ValueError(f"temperature is {_shown(temperature)}, {needed}")
    for name in ("max_length", "ngram_characters"):
        _whole_number(card[name], name, SIZES[name])
    _check_examples(card.get("examples", []))
    _check_decisions(card)


def _check_labels(labels: Any) -> None:
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"labels is {_shown(labels)}, a list of strings is needed")
    _whole_number(len(labels), "the number of labels", SIZES["classes"])
    if len(set(labels)) < len(labels):
        twice = next(label for label, count in Counter(labels).items() if count > 1)
        raise ValueError(f"the label {_shown(twice)} occurs twice")
    if unpaired := [label for label in labels if any("\ud800" <= char <= "\udfff" for char in label)]:
        raise ValueError(f"the label {_shown(unpaired[0])} has half of a surrogate pair")


def _check_examples(examples: Any) -> None:
    if not isinstance(examples, list) or len(examples) > MAX_EXAMPLES or not all(map(is_example, examples)):
        needed = f"a list of at most {MAX_EXAMPLES} texts of 1 to {MAX_EXAMPLE_CHARACTERS} characters is needed"
        raise ValueError(f"examples is {_shown(examples)}, {needed}")


def _check_decisions(card: Mapping[str, Any]) -> None:
    """Check what says which labels a text gets: nothing, ``thresholds`` or ``tasks``, which depends on the format."""
    for name, needed in (("thresholds", ANY_LABELS), ("tasks", SEVERAL_TASKS)):
        if name in card and card.get("format") != needed:
            raise ValueError(f"{name} is {_shown(card[name])}, which only format {needed} has")
    if card.get("format") == ANY_LABELS:
        _check_thresholds(card.get("thresholds"), len(card["labels"]))
    elif card.get("format") == SEVERAL_TASKS:
        _check_tasks(card.get("tasks"), card["labels"])


def _check_thresholds(thresholds: Any, count: int) -> None:
    if not isinstance(thresholds, list) or len(thresholds) != count or not all(map(_is_probability, thresholds)):
        needed = f"a list of {count} numbers from 0 to 1 is needed, one per label"
        raise ValueError(f"thresholds is {_shown(thresholds)}, {needed}")


def _check_tasks(tasks: Any, labels: list[str]) -> None:
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError(f"tasks is {_shown(tasks)}, a list of objects is needed")
    _whole_number(len(tasks), "the number of tasks", SIZES["classes"])
    for task in tasks:
        try:
            _check_task(task)
        except ValueError as error:
            raise ValueError(f"in the task {_shown(task.get('name'))}, {error}") from error
    if twice := [name for name, count in Counter(task["name"] for task in tasks).items() if count > 1]:
        raise ValueError(f"the task {_shown(twice[0])} occurs twice")
    if list(flat_labels(tasks_of(tasks))) != labels:
        raise ValueError("labels are not those of the tasks, each after its task's name and a slash")


def _check_task(task: Mapping[str, Any]) -> None:
    name, labels = task.get("name"), task.get("labels")
    if not isinstance(name, str) or not name.strip() or any(category(char) == CONTROL for char in name):
        raise ValueError(f"name is {_shown(name)}, a string without control characters is needed")
    _check_labels(labels)
    if "thresholds" in task:
        _check_thresholds(task["thresholds"], len(task["labels"]))
    elif len(task["labels"]) < MIN_ALTERNATIVES:
        raise ValueError(f"labels is {_shown(labels)}, at least two are needed where there are no thresholds")


def _is_probability(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def is_example(text: object) -> bool:
    """Whether a bundle can hold this text as an example: one line of valid characters, not too long."""
    return (
        isinstance(text, str) and 0 < len(text) <= MAX_EXAMPLE_CHARACTERS and text.isprintable() and not text.isspace()
    )


def _whole_number(value: Any, name: str, size: Size) -> int:
    if type(value) is not int or not size.low <= value <= size.high:
        raise ValueError(f"{name} is {_shown(value)}, a whole number from {size.low} to {size.high} is needed")
    return value


def _shown(value: object) -> str:
    """A value of the card for a message: its first 40 characters."""
    return f"{value!r:.40}"


def problems(card: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """What is wrong with the arrays of a bundle: those that are missing or have another type, shape or values.

    Values are compared with sizes, so they are checked only if all types and shapes are right. Arrays that the schema
    does not have are ignored, and the runtime does not use them.

    Raises:
        ValueError: the card's network is unknown or lacks a size.
    """
    sizes, specs = sizes_of(card), specs_of(card)
    for spec in specs:
        shape = arrays[spec.name].shape if spec.name in arrays else ()
        for dimension, size in zip(spec.shape, shape, strict=False):
            if dimension.isidentifier():
                sizes.setdefault(dimension, size)
    return (
        [problem for spec in specs if (problem := _shape_problem(spec, arrays.get(spec.name), sizes))]
        or [problem for name, size in sizes.items() if (problem := _size_problem(name, size))]
        or [problem for spec in specs if (problem := _value_problem(spec, arrays[spec.name], sizes))]
        or _trie_problems(arrays)
    )


def _shape_problem(spec: ArraySpec, array: NDArray[Any] | None, sizes: Mapping[str, int]) -> str:
    """What is wrong with an array's type and shape; empty if nothing is."""
    shape = tuple(value_of(dimension, sizes) for dimension in spec.shape)
    wanted = f"{spec.dtype} {_shown_shape(shape, spec.shape)} is needed"
    if array is None:
        return f"array {spec.name} is missing, {wanted}"
    if array.dtype.name in spec.dtype.split(" or ") and array.shape == shape:
        return ""
    return f"array {spec.name} is {array.dtype.name} {array.shape}, {wanted}"


def _size_problem(name: str, value: int) -> str:
    """What is wrong with a size; empty if nothing is."""
    size = SIZES[name]
    if size.low <= value <= size.high:
        return ""
    return f"size {name} is {value}, {size.low} to {size.high} is needed"


def _value_problem(spec: ArraySpec, array: NDArray[Any], sizes: Mapping[str, int]) -> str:
    """What is wrong with an array's values; empty if nothing is."""
    if not spec.values and spec.dtype not in FLOAT_LIMITS:
        return ""
    limit = FLOAT_LIMITS.get(spec.dtype, 0.0)
    low, high = (value_of(value, sizes) for value in spec.values) if spec.values else (-limit, limit)
    values = array & array.dtype.type(np.iinfo(array.dtype).max - spec.flags) if spec.flags else array
    smallest, largest = values.min(), values.max()  # NaN if there is one, which no comparison accepts
    if low <= smallest and largest <= high:
        return ""
    return f"array {spec.name} has values from {smallest:.9g} to {largest:.9g}, {low:.9g} to {high:.9g} is needed"


def _trie_problems(arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """What is wrong with the characters of the lexicon's trie; kernels/trie.c checks the order of the nodes below."""
    letters, labels = arrays["lexicon.letters"], arrays["lexicon.labels"]
    if (letters[1:] <= letters[:-1]).any():
        return ["array lexicon.letters is not in ascending order"]
    if not np.array_equal(labels[: len(letters)], np.arange(1, len(letters) + 1)):
        return ["array lexicon.labels does not begin with one node for each of lexicon.letters"]
    return []


def value_of(formula: str, sizes: Mapping[str, int]) -> int | None:
    """A product of numbers and sizes, or that minus 1, as a number; None if it depends on an unknown size."""
    value = 1
    for factor in formula.removesuffix(" - 1").split(" * "):
        if not factor.isdecimal() and factor not in sizes:
            return None
        value *= int(factor) if factor.isdecimal() else sizes[factor]
    return value - formula.endswith(" - 1")


def _shown_shape(shape: Sequence[int | None], names: Sequence[str]) -> str:
    """A shape as NumPy writes it; an unknown dimension is shown by its name."""
    shown = [name if value is None else str(value) for value, name in zip(shape, names, strict=True)]
    return f"({', '.join(shown)}{',' * (len(shown) == 1)})"


def check(card: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], where: object, hint: str) -> None:
    """Refuse a bundle whose card or arrays do not match the schema.

    Raises:
        UserError: names the first problems: the field or array, what is needed and what was found.
    """
    try:
        check_card(card)
        messages = problems(card, arrays)
    except (ValueError, KeyError, RecursionError) as error:
        raise UserError(f"this bundle is broken: {error}", where, hint) from error
    if messages:
        raise UserError(f"this bundle is broken: {join_problems(messages, 3)}", where, hint)
