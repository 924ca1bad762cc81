"""Small random bundles of every network, and damage to them, for kernels.py and tests/runtime/test_hostile_bundles.py.

The damage is done to a bundle's card, its arrays or the bytes of its file, and the checksum in the card is computed
again, as whoever edits a bundle would do.
"""

from __future__ import annotations

import copy
import json
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.runtime import schema
from distill.runtime.bundle import BUNDLE_ARRAYS, BUNDLE_CARD, DTYPES, checksum
from distill.runtime.constants import ELEMENTWISE_CELLS, FORCE_SPLIT, HAN

Card = dict[str, Any]
Arrays = dict[str, NDArray[Any]]

CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
NETWORKS: dict[str, Card] = {
    "lstm": {"architecture": "bilstm", "hidden": 20, "cell": "lstm", "sentence": False},
    "gru": {"architecture": "bilstm", "hidden": 20, "cell": "gru", "sentence": False},
    "lstm over a sentence": {"architecture": "bilstm", "hidden": 20, "cell": "lstm", "sentence": True},
    **{cell: {"architecture": "bilstm", "hidden": 20, "cell": cell, "sentence": False} for cell in ELEMENTWISE_CELLS},
    "textcnn": {"architecture": "textcnn", "hidden": 20, "spans": 3},
    "average": {"architecture": "average"},
}
LABELS = ["体育", "财经", "科技"]
TASKS = [{"name": "topic", "labels": ["体育", "财经"]}, {"name": "sign", "labels": ["科技"], "thresholds": [0.5]}]
TASK_LABELS = ["topic/体育", "topic/财经", "sign/科技"]
WORDS = ["球队", "球员", "银行", "手机", "银行股", "股票", "大涨", "a", "5g", "c++", "今天", "公布", "消息", "😀", "新"]
CHARACTERS = [chr(point) for point in range(HAN.start, HAN.stop, 70)]  # words of the vocabulary, not of the dictionary
VOCABULARY = [*WORDS, *(character for character in CHARACTERS if character not in WORDS)]
SPLIT = "大涨"  # a word that the hidden Markov model must not form
MASS = 1_000  # of all frequencies
SIZES = {"width": 10, "hidden": 20, "buckets": 97, "rows": 31}


def all_bundles() -> dict[tuple[str, bool], tuple[Card, Arrays]]:
    """Bundles of every network, without and with n-grams; one that gives any number of labels, and one of two tasks."""
    bundles = {(name, ngrams): random_bundle(name, ngrams) for name in NETWORKS for ngrams in (False, True)}
    card, arrays = random_bundle("average", True)
    several_tasks = {**card, "format": 3, "labels": TASK_LABELS, "tasks": TASKS}
    return bundles | {
        ("several labels", True): ({**card, "format": 2, "thresholds": [0.5, 0.0, 1.0]}, arrays),
        ("several tasks", True): (several_tasks, arrays),
    }


def random_bundle(name: str, ngrams: bool, seed: int = 0) -> tuple[Card, Arrays]:
    """Card and arrays of a bundle with one of ``NETWORKS`` and a dictionary of a few words."""
    random = np.random.default_rng(seed)
    network = copy.deepcopy(NETWORKS[name])
    card: Card = {"format": 1, "network": network, "labels": LABELS, "temperature": 1.5, "max_length": 9}
    card |= {"ngram_characters": 36 * ngrams, "segmenter": {"name": "jieba", "version": "0.42.1"}}
    arrays = lexicon(random)
    sizes = SIZES | schema.sizes_of(card) | {"words": len(arrays["lexicon.words"])}
    for spec in schema.specs_of(card):
        shape = [schema.value_of(dimension, sizes) for dimension in spec.shape]
        if spec.name not in arrays:
            arrays[spec.name] = _random_array(spec, shape, random, arrays)
    return card, arrays


def _random_array(
    spec: schema.ArraySpec, shape: list[Any], random: np.random.Generator, arrays: Arrays
) -> NDArray[Any]:
    """One array; ``arrays`` holds those before it, so that vectors of both types are equally large."""
    if spec.dtype == "float32":
        table = arrays.get(spec.name.removesuffix(".scale"))
        scale = 0.3 if table is None else 2 / np.iinfo(table.dtype).max
        values = scale * random.standard_normal(shape)
        return np.asarray(np.abs(values) if spec.values else values, np.float32)  # only scales have bounds
    dtype = np.dtype(random.choice(spec.dtype.split(" or ")))
    largest = np.iinfo(dtype).max
    low, high = (0, SIZES["rows"]) if spec.name == "ngrams.row_of" else (-largest, largest + 1)
    return random.integers(low, high, shape).astype(dtype)


def lexicon(random: np.random.Generator) -> Arrays:
    """The arrays ``lexicon.*`` of ``VOCABULARY``, with ``WORDS`` as dictionary and a random hidden Markov model."""
    nodes = sorted({word[:end] for word in WORDS for end in range(1, len(word) + 1)} | set("".join(VOCABULARY)))
    nodes.sort(key=len)
    number = {node: index for index, node in enumerate(nodes, 1)}
    letters = [node for node in nodes if len(node) == 1]
    parents = Counter(node[:-1] for node in nodes)
    scores = np.log(np.array([1, *range(1, len(WORDS) + 1)]) / MASS)
    weights = [1 + WORDS.index(node) if node in WORDS else 0 for node in nodes]
    weights[nodes.index(SPLIT)] |= FORCE_SPLIT
    return {
        "lexicon.letters": np.array([ord(letter) for letter in letters], np.uint32),
        "lexicon.labels": np.array([number[node[-1]] for node in nodes], np.uint16),
        "lexicon.children": np.array([parents[node] for node in nodes], np.uint16),
        "lexicon.weights": np.array(weights, np.uint16),
        "lexicon.scores": scores,
        "lexicon.words": np.array([0, 0, *(number[word] for word in VOCABULARY)], np.int32),
        "lexicon.start": -random.random(4),
        "lexicon.transitions": -random.random((4, 4)),
        "lexicon.emissions": -random.random((len(HAN), 4)),
    }


def to_bytes(arrays: Arrays, header: dict[str, Any] | None = None) -> bytes:
    """A safetensors file, with another header if one is given."""
    described, content = header_of(arrays), b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())
    encoded = json.dumps(described if header is None else header).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + content


def header_of(arrays: Arrays) -> dict[str, Any]:
    """The header of a safetensors file."""
    header, offset = {}, 0
    for name, array in arrays.items():
        offsets = [offset, offset := offset + array.nbytes]
        header[name] = {"dtype": CODES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
    return header


def write_bundle(folder: Path, card: Card, content: bytes) -> Path:
    """Write a bundle with the right checksum, unless the card already has ``files``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BUNDLE_ARRAYS).write_bytes(content)
    card = {"files": {BUNDLE_ARRAYS: checksum(content)}, **card}
    (folder / BUNDLE_CARD).write_text(json.dumps(card), encoding="utf-8")
    return folder


def deep_list(depth: int = 500) -> list[Any]:
    """Lists in one another."""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


ODD_VALUES = (None, True, False, -5, -1, 0, 1, 2, 3, 2**15, 2**31, 2**32, 2**63, 2**70, -(2**63), 0.5, 1e-300, 1e308)
ODD_VALUES += (float("nan"), float("inf"), "", "lstm", "gru", "bilstm", "textcnn", "average", "\ud800", [], {}, [1])
ODD_VALUES += (
    ["a", "b", "c"],
    ["a", "a", "b"],
    ["a"] * 4,
    ["a", "b"],
    ["a", 1, None],
    ["\ud800", "b", "c"],
    deep_list(),
    [{"name": "topic", "labels": ["体育", "财经"]}, {"name": "sign", "labels": ["科技"]}],
    [{}, {"name": None, "labels": {}}],
)
ODD_NUMBERS = (0, 1, -1, 2, 0x4000, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, -(2**31))
ODD_FLOATS = (*ODD_NUMBERS, 1e-40, 1e5, -1e6, 1e7, 1e20, 3e38, np.inf, -np.inf, np.nan)


def damaged_bundle(card: Card, arrays: Arrays, random: np.random.Generator) -> tuple[Card, bytes]:
    """A copy of a bundle with one to three faults: its card, and its file."""
    card, arrays = copy.deepcopy(card), dict(arrays)
    content = None
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        kind = random.integers(10)
        if kind < 3:
            _damage_card(card, random)
        elif kind < 9:
            _damage_array(arrays, random)
        else:
            content = _damaged_file(arrays, random)
    return card, content if content is not None else to_bytes(arrays)


def _damage_card(card: Card, random: np.random.Generator) -> None:
    fields = card["network"] if random.random() < 0.5 and isinstance(card.get("network"), dict) else card
    if not fields:
        return
    name = str(random.choice(sorted(fields)))
    if random.random() < 0.1:
        del fields[name]
    elif type(fields[name]) is int and random.random() < 0.5:
        fields[name] += int(random.choice([-1, 1, fields[name], 10 * fields[name]]))
    else:
        fields[name] = ODD_VALUES[random.integers(len(ODD_VALUES))]


def _damage_array(arrays: Arrays, random: np.random.Generator) -> None:
    name = str(random.choice(sorted(arrays)))
    array = arrays[name].copy()
    kind = random.integers(7)
    if kind < 3 and array.size:  # one or several values
        odd = ODD_FLOATS if array.dtype.kind == "f" else ODD_NUMBERS
        places = random.integers(array.size, size=random.choice([1, 1, 5, array.size]))
        with np.errstate(all="ignore"):
            array.reshape(-1)[places] = np.array(odd[random.integers(len(odd))]).astype(array.dtype)
    elif kind == 3 and array.size:  # random bytes
        array = np.frombuffer(random.bytes(array.nbytes), array.dtype).reshape(array.shape)
    elif kind == 4 and array.ndim:  # another shape
        shapes = [array[:-1], array[:1], np.concatenate([array, array]), array.reshape(-1), array.T, array[None]]
        array = shapes[random.integers(len(shapes))]
    elif kind == 5:  # another type
        with np.errstate(all="ignore"):
            array = array.astype(random.choice(sorted(DTYPES.values())))
    else:
        other = str(random.choice(sorted(arrays)))
        arrays[other] = array
        if random.random() < 0.5:
            del arrays[name]
            return
    arrays[name] = array


def _damaged_file(arrays: Arrays, random: np.random.Generator) -> bytes:
    header = header_of(arrays)
    kind = random.integers(4)
    if kind == 0 and header:  # an entry of the header
        entry = header[str(random.choice(sorted(header)))]
        field = str(random.choice(sorted(entry)))
        if isinstance(entry[field], list) and entry[field] and random.random() < 0.7:
            entry[field][random.integers(len(entry[field]))] = ODD_VALUES[random.integers(len(ODD_VALUES))]
        else:
            entry[field] = ODD_VALUES[random.integers(len(ODD_VALUES))]
        return to_bytes(arrays, header)
    content = bytearray(to_bytes(arrays))
    if kind == 1:  # too short or too long
        return bytes(content[: random.integers(len(content))]) if random.random() < 0.7 else bytes(content) + b"\0" * 8
    start = 0 if kind == 2 else 8  # changed bytes, in the header's length too
    for place in random.integers(start, 8 + struct.unpack("<Q", content[:8])[0], size=random.integers(1, 9)):
        content[place] = random.integers(256)
    return bytes(content)


LENGTHS = (0, 1, 1, 2, 2, *[5] * 4, *[12] * 5, 30, 30, 80)  # of most texts
ALPHABETS = [  # code points
    np.frombuffer("".join(WORDS).encode("utf-32-le"), np.uint32),
    np.frombuffer(
        "今天公布新消息abc 123.5%[UNK]ΑΣİ\u200b\ufeff\ud800\x00\x1f\u3000".encode("utf-32-le", "surrogatepass"),
        np.uint32,
    ),
    np.array([ord(character) for character in CHARACTERS], np.uint32),
    np.arange(HAN.start, HAN.stop, dtype=np.uint32),
    np.arange(0x110000, dtype=np.uint32),
]


def random_texts(random: np.random.Generator, count: int) -> Iterator[str]:
    """Texts of random code points, known words, control and zero-width characters, surrogates; a few are long."""
    for _ in range(count):
        length = 5_000 if random.random() < 0.001 else int(LENGTHS[random.integers(len(LENGTHS))])
        alphabet = ALPHABETS[random.integers(len(ALPHABETS))]
        points = alphabet[random.integers(len(alphabet), size=length)]
        yield points.tobytes().decode("utf-32-le", "surrogatepass")


def random_buffer(random: np.random.Generator, texts: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """UTF-8 with some bytes exchanged, and as many spans as texts: anywhere, within characters too, one at the end."""
    content = bytearray("".join(texts).encode("utf-8", "surrogatepass"))
    for place in random.integers(len(content), size=len(content) // 8).tolist() if content else ():
        content[place] = random.integers(256)
    begins = random.integers(len(content) + 1, size=len(texts))
    ends = np.minimum(begins + 3 * random.choice(LENGTHS, size=len(texts)), len(content))
    ends[:1] = len(content)
    return bytes(content), np.stack([begins, ends], axis=1)
