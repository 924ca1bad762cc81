"""A bundle that was made to do harm is refused with a clear error, whatever is wrong with it; its checksum is right."""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.errors import UserError
from distill.runtime import MAX_THREADS, Runtime
from distill.runtime import bundle as bundle_file
from distill.runtime.bundle import BUNDLE_ARRAYS, BUNDLE_CARD

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "reliability"))

from random_bundles import (  # noqa: E402
    Arrays,
    Card,
    all_bundles,
    damaged_bundle,
    deep_list,
    header_of,
    random_bundle,
    to_bytes,
    write_bundle,
)

TEXTS = ["", "球队今天公布", "银行股票大涨😀 5g", "a" * 60, "[UNK]手机\ud800"]
BASES = all_bundles()


@pytest.mark.parametrize(("name", "ngrams"), BASES)
def test_a_sound_bundle_is_accepted(name: str, ngrams: bool, tmp_path: Path) -> None:
    card, arrays = BASES[name, ngrams]
    runtime = Runtime(write_bundle(tmp_path, card, to_bytes(arrays)))
    probabilities = runtime.flat_proba(TEXTS)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    if card["format"] == 1:
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


def in_card(**values: Any) -> Callable[[Card, Arrays], None]:
    return lambda card, arrays: card.update(values)


def in_network(**values: Any) -> Callable[[Card, Arrays], None]:
    return lambda card, arrays: card["network"].update(values)


def value(name: str, number: float, place: int = -1) -> Callable[[Card, Arrays], None]:
    """Write a value into an array."""

    def change(card: Card, arrays: Arrays) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].reshape(-1)[place] = number

    return change


def shape(name: str, count: int) -> Callable[[Card, Arrays], None]:
    """Keep the first rows of an array, or repeat them."""
    return lambda card, arrays: arrays.update({name: np.resize(arrays[name], (count, *arrays[name].shape[1:]))})


def shapes(counts: dict[str, int]) -> Callable[[Card, Arrays], None]:
    return lambda card, arrays: [shape(name, count)(card, arrays) for name, count in counts.items()] and None


def exchange_siblings(card: Card, arrays: Arrays) -> None:
    """The two words that begin with the same character are in the wrong order."""
    labels, children = arrays["lexicon.labels"], arrays["lexicon.children"]
    parent = int(np.flatnonzero(children == 2)[0])
    first = len(arrays["lexicon.letters"]) + int(children[:parent].sum())
    labels[[first, first + 1]] = labels[[first + 1, first]]


def without(name: str) -> Callable[[Card, Arrays], None]:
    return lambda card, arrays: arrays.__delitem__(name)


def as_type(name: str, dtype: str) -> Callable[[Card, Arrays], None]:
    return lambda card, arrays: arrays.update({name: arrays[name].astype(dtype)})


def in_tasks(
    *tasks: Any, labels: Sequence[str] = ("a/b", "a/c", "d/e"), **values: Any
) -> Callable[[Card, Arrays], None]:
    """A card of format 3 with these tasks and labels."""
    return in_card(**{"format": 3, "tasks": list(tasks), "labels": list(labels), **values})


def task(name: Any, *labels: Any, **values: Any) -> dict[str, Any]:
    return {"name": name, "labels": list(labels), **values}


A_TASK, D_TASK = task("a", "b", "c"), task("d", "e", thresholds=[0.5])

# network -> what is wrong -> (change, message)
Fault = tuple[str, Callable[[Card, Arrays], None], str]
FAULTS: dict[str, Fault] = {
    "more letters than nodes": ("lstm", shape("lexicon.letters", 4000), "lexicon.labels|ascending"),
    "letters not ascending": ("lstm", value("lexicon.letters", 0x41), "lexicon.letters is not in ascending order"),
    "a letter beyond Unicode": ("lstm", value("lexicon.letters", 0x110000), "values from .* to 1114112, 0 to 1114111"),
    "a label of no letter": ("lstm", value("lexicon.labels", 999), "lexicon.labels has values"),
    "a label of 0": ("lstm", value("lexicon.labels", 0), "lexicon.labels has values from 0"),
    "letters without their nodes": ("lstm", value("lexicon.labels", 2, 0), "lexicon.labels does not begin"),
    "siblings not ascending": ("lstm", exchange_siblings, "not a trie in breadth-first order"),
    "too many children": ("lstm", value("lexicon.children", 20, 0), "not a trie"),
    "too few children": ("lstm", lambda card, arrays: arrays["lexicon.children"].fill(0), "not a trie"),
    "more children than nodes": ("lstm", value("lexicon.children", 60_000, 0), "lexicon.children has values"),
    "a weight beyond the scores": ("lstm", value("lexicon.weights", 0x3FFF), "lexicon.weights has values .* 0 to 15"),
    "the bit of the trie itself": ("lstm", value("lexicon.weights", 0x4000), "lexicon.weights has values"),
    "a word of no node": ("lstm", value("lexicon.words", 5000), "lexicon.words has values .* 0 to"),
    "a word of a negative node": ("lstm", value("lexicon.words", -1), "lexicon.words has values from -1"),
    "fewer words than ids": ("lstm", shape("words", 5), r"lexicon.words is int32 \(317,\), int32 \(5,\) is needed"),
    "no words": (
        "average",
        shapes({"words": 0, "lexicon.words": 0}),
        "size words is 0, 2 to",
    ),
    "no nodes": ("lstm", shape("lexicon.labels", 0), "lexicon.children is uint16"),
    "a score that is not a number": ("lstm", value("lexicon.scores", np.nan), "lexicon.scores has values from nan"),
    "an infinite transition": (
        "lstm",
        value("lexicon.transitions", -np.inf),
        "lexicon.transitions has values from -inf",
    ),
    "a short emission table": ("lstm", shape("lexicon.emissions", 9), "lexicon.emissions is float64"),
    "short input weights": ("lstm", shape("input.ahead", 9), r"input.ahead is float32 \(9, 80\)"),
    "short recurrent weights": ("gru", shape("recurrent.back", 19), r"recurrent.back is float32 \(19, 60\)"),
    "a short bias": ("lstm", shape("bias.back", 79), "bias.back is float32"),
    "a short classifier": ("textcnn", shape("classifier.weight", 59), r"classifier.weight is float32 \(59, 3\)"),
    "a short bias of the classifier": ("lstm", shape("classifier.bias", 2), r"classifier.bias is float32 \(2,\)"),
    "short filters": ("textcnn", shape("taps", 9), "taps is float32"),
    "a weight that is not a number": ("lstm", value("recurrent.back", np.nan), "recurrent.back has values from nan"),
    "an infinite weight": ("average", value("layer.weight", np.inf), "layer.weight has values .* to inf"),
    "a huge scale": (
        "average",
        value("words.scale", 1e30),
        r"words.scale has values from .* to 1.*e\+30, 0 to 1000000",
    ),
    "a negative scale": ("average", value("ngrams.scale", -1), "ngrams.scale has values from -1 to .*, 0 to 1000000"),
    "one bucket": ("lstm", shape("ngrams.row_of", 1), "size buckets is 1, 2 to"),
    "an n-gram row beyond the table": ("lstm", value("ngrams.row_of", 31), "ngrams.row_of has values .* 0 to 30"),
    "no n-gram rows": ("average", shape("ngrams", 0), "size rows is 0, 1 to"),
    "says without n-gram characters": ("lstm", in_card(ngram_characters=0), ""),
    "n-gram characters without says": ("lstm", without("ngrams.says"), "ngrams.says is missing"),
    "doubles instead of floats": ("lstm", as_type("input.ahead", "float64"), "input.ahead is float64"),
    "signed children": ("lstm", as_type("lexicon.children", "int16"), "lexicon.children is int16"),
    "a negative length": ("lstm", in_card(max_length=-5), "max_length is -5, a whole number from 1 to 1048576"),
    "a length of true": ("lstm", in_card(max_length=True), "max_length is True"),
    "a fractional length": ("lstm", in_card(max_length=9.0), "max_length is 9.0"),
    "a huge length": ("lstm", in_card(max_length=2**40), "max_length is 1099511627776"),
    "negative n-gram characters": ("lstm", in_card(ngram_characters=-1), "ngram_characters is -1"),
    "a temperature of 0": ("lstm", in_card(temperature=0), "temperature is 0, a number from 0.001 to 1e"),
    "an infinite temperature": ("lstm", in_card(temperature=1e999), "Infinity is not a JSON number"),
    "a temperature in words": ("lstm", in_card(temperature="1.5"), "temperature is '1.5'"),
    "no labels": ("lstm", in_card(labels=[]), "the number of labels is 0"),
    "more labels than classes": ("lstm", in_card(labels=[*"abcd"]), r"classifier.bias is float32 \(3,\)"),
    "fewer labels than classes": ("lstm", in_card(labels=[*"ab"]), r"classifier.bias is float32 \(3,\)"),
    "a repeated label": ("lstm", in_card(labels=[*"aba"]), "the label 'a' occurs twice"),
    "a label that is a number": ("lstm", in_card(labels=["a", "b", 3]), "a list of strings is needed"),
    "labels in one string": ("lstm", in_card(labels="abc"), "labels is 'abc', a list of strings is needed"),
    "a label of half a character": ("lstm", in_card(labels=["\ud800", "b", "c"]), "half of a surrogate pair"),
    "another cell": ("lstm", in_network(cell="gru"), "input.ahead is float32"),
    "an unhashable cell": ("lstm", in_network(cell=[]), r"network.cell is \[\], one of lstm, gru"),
    "an unhashable network": ("lstm", in_network(architecture={}), "unknown network {}"),
    "a network in words": ("lstm", in_card(network="lstm"), "network is 'lstm', an object is needed"),
    "a hidden size in words": ("lstm", in_network(hidden="20"), "network.hidden is '20'"),
    "a huge hidden size": ("textcnn", in_network(hidden=2**62), "network.hidden is 4611686018427387904"),
    "many spans": ("textcnn", in_network(spans=10**6), "network.spans is 1000000, a whole number from 1 to 16"),
    "sentence in words": ("lstm", in_network(sentence="no"), "network.sentence is 'no', true or false"),
    "a deeply nested label": ("lstm", in_card(labels=deep_list()), "labels is .*a list of strings|recursion"),
    "a format of true": ("lstm", in_card(format=True), "format is True"),
    "thresholds of one label": ("lstm", in_card(thresholds=[0.5] * 3), r"thresholds is \[.*which only format 2 has"),
    "no thresholds": ("lstm", in_card(format=2), "thresholds is None, a list of 3 numbers from 0 to 1 is needed"),
    "too few thresholds": ("lstm", in_card(format=2, thresholds=[0.5]), r"thresholds is \[0.5\], a list of 3 numbers"),
    "a threshold of 1.5": ("lstm", in_card(format=2, thresholds=[0.5, 1.5, 0]), "a list of 3 numbers from 0 to 1"),
    "a threshold of true": ("lstm", in_card(format=2, thresholds=[0.5, True, 0]), "a list of 3 numbers from 0 to 1"),
    "an infinite threshold": ("lstm", in_card(format=2, thresholds=[1e999] * 3), "Infinity is not a JSON number"),
    "tasks in format 1": ("lstm", in_card(tasks=[A_TASK, D_TASK]), r"tasks is \[.*which only format 3 has"),
    "tasks in format 2": ("lstm", in_tasks(A_TASK, D_TASK, format=2, thresholds=[0.5] * 3), "which only format 3 has"),
    "thresholds beside tasks": ("lstm", in_tasks(A_TASK, D_TASK, thresholds=[0.5] * 3), "which only format 2 has"),
    "no list of tasks": ("lstm", in_card(format=3), "tasks is None, a list of objects is needed"),
    "no tasks": ("lstm", in_tasks(), "the number of tasks is 0, a whole number from 1"),
    "tasks in an object": (
        "lstm",
        in_card(format=3, tasks={"a": ["b", "c"]}),
        "tasks is .*a list of objects is needed",
    ),
    "a task in words": ("lstm", in_tasks(A_TASK, "d"), "tasks is .*a list of objects is needed"),
    "a task without a name": ("lstm", in_tasks(A_TASK, {"labels": ["e"]}), "in the task None, name is None, a string"),
    "an empty name": ("lstm", in_tasks(A_TASK, task(" ", "e", thresholds=[0.5])), "name is ' ', a string without"),
    "a line end in a name": ("lstm", in_tasks(A_TASK, task("d\n", "e")), r"name is 'd\\n', a string without control"),
    "a name of half a character": ("lstm", in_tasks(labels=["\ud800/b", "a/c", "d/e"]), "half of a surrogate pair"),
    "a repeated task": ("lstm", in_tasks(A_TASK, task("a", "d", thresholds=[0.5])), "the task 'a' occurs twice"),
    "a task without labels": ("lstm", in_tasks(A_TASK, task("d")), "in the task 'd', the number of labels is 0"),
    "labels of a task in words": ("lstm", in_tasks(A_TASK, {"name": "d", "labels": "e"}), "labels is 'e', a list of"),
    "a repeated label of a task": ("lstm", in_tasks(task("a", "b", "b"), D_TASK), "in the task 'a', the label 'b' occ"),
    "a task of one label": ("lstm", in_tasks(A_TASK, task("d", "e")), "in the task 'd', .*at least two are needed"),
    "thresholds of no label": (
        "lstm",
        in_tasks(A_TASK, task("d", "e", thresholds=[])),
        "a list of 1 numbers from 0 to",
    ),
    "a task's threshold of 2": ("lstm", in_tasks(A_TASK, task("d", "e", thresholds=[2])), "a list of 1 numbers from 0"),
    "labels of other tasks": ("lstm", in_tasks(A_TASK, D_TASK, labels=[*"bce"]), "labels are not those of the tasks"),
    "labels in another order": ("lstm", in_tasks(D_TASK, A_TASK), "labels are not those of the tasks"),
    "fewer tasks than labels": ("lstm", in_tasks(A_TASK), "labels are not those of the tasks"),
    "more tasks than outputs": (
        "lstm",
        in_tasks(A_TASK, D_TASK, task("f", "g", "h"), labels=["a/b", "a/c", "d/e", "f/g", "f/h"]),
        r"classifier.bias is float32 \(3,\)",
    ),
    "a format of 0": ("lstm", in_card(format=0), "format is 0"),
    "a file outside the folder": (
        "lstm",
        in_card(files={"../x": "", BUNDLE_ARRAYS: ""}),
        "'../x', which is not a file in",
    ),
    "an absolute file": ("lstm", in_card(files={"/etc/passwd": "", BUNDLE_ARRAYS: ""}), "'/etc/passwd', which is not"),
    "files in a list": ("lstm", in_card(files=[BUNDLE_ARRAYS]), "the checksum of bundle.safetensors missing"),
    "a checksum that is a number": ("lstm", in_card(files={BUNDLE_ARRAYS: 5}), "has changed since the export"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_crafted_bundle_is_refused(fault: str, tmp_path: Path) -> None:
    name, change, message = FAULTS[fault]
    card, arrays = random_bundle(name, ngrams=True)
    change(card, arrays)
    folder = write_bundle(tmp_path, card, to_bytes(arrays))
    if fault == "says without n-gram characters":  # the array is ignored
        assert np.isfinite(Runtime(folder).predict_proba(TEXTS)).all()
        return
    with pytest.raises(UserError, match=message) as error:
        Runtime(folder)
    assert error.value.where and error.value.hint and "\n" not in error.value.what and len(error.value.what) < 300


def header(**changes: Any) -> Callable[[Arrays], bytes]:
    """The file with other fields in the entry of ``words`` in its header."""

    def content(arrays: Arrays) -> bytes:
        described = header_of(arrays)
        described["words"] |= changes
        return to_bytes(arrays, described)

    return content


def repeated_name(arrays: Arrays) -> bytes:
    content = to_bytes(arrays)
    return content.replace(b'"words.scale": ', b'"words":       ', 1)


def overlapping(arrays: Arrays) -> bytes:
    described = header_of(arrays)
    described["words"]["data_offsets"] = described["ngrams.row_of"]["data_offsets"]
    return to_bytes(arrays, described)


def with_header(text: bytes, length: int | None = None) -> Callable[[Arrays], bytes]:
    return lambda arrays: struct.pack("<Q", len(text) if length is None else length) + text + bytes(64)


NOT_ARRAYS: dict[str, tuple[Callable[[Arrays], bytes], str]] = {
    "an empty file": (lambda arrays: b"", "its header has"),
    "a header longer than the file": (with_header(b"{}", 2**63), "its header has 9,223,372,036,854,775,808 bytes"),
    "a header that is too long": (with_header(b"{}" + b" " * 2**20), "more than the file or than 1,048,576"),
    "a header that is a list": (with_header(b"[]"), "not a JSON object"),
    "a header in another encoding": (with_header(b'{"\xff": 1}'), "utf-8"),
    "a deeply nested header": (with_header(b"[" * 100_000), "recursion"),
    "an infinite offset": (with_header(b'{"a": {"data_offsets": [0, Infinity]}}'), "Infinity is not a JSON number"),
    "a name that occurs twice": (repeated_name, "a name occurs twice"),
    "arrays that overlap": (overlapping, "its arrays overlap"),
    "bytes after the arrays": (lambda arrays: to_bytes(arrays) + bytes(8), "do not end with the file"),
    "a file that is too short": (lambda arrays: to_bytes(arrays)[:-1], "do not end with the file"),
    "a negative offset": (header(data_offsets=[-8, 3170]), "'words' has no valid data_offsets"),
    "offsets in the wrong order": (header(data_offsets=[3170, 0]), "'words' has no valid data_offsets"),
    "a huge offset": (header(data_offsets=[0, 2**70]), "its arrays overlap"),
    "a fractional offset": (header(data_offsets=[0, 3170.0]), "'words' has no valid data_offsets"),
    "three offsets": (header(data_offsets=[0, 3170, 3170]), "'words' has no valid data_offsets"),
    "a shape of more bytes": (header(shape=[999, 10]), "'words' has 3,170 bytes, its shape"),
    "a huge shape without bytes": (header(shape=[2**70, 0]), "'words' has 3,170 bytes, its shape"),
    "a negative shape": (header(shape=[-317, -10]), "'words' has no valid dtype and shape"),
    "a shape in words": (header(shape="16"), "'words' has no valid dtype and shape"),
    "an unknown type": (header(dtype="BF16"), "'words' has no valid dtype and shape"),
    "an unhashable type": (header(dtype=[]), "'words' has no valid dtype and shape"),
    "many dimensions": (header(shape=[317, 10, *[1] * 90]), "dimension"),
}


@pytest.mark.parametrize("fault", NOT_ARRAYS)
def test_a_file_that_is_not_safetensors_is_refused(fault: str, tmp_path: Path) -> None:
    content, message = NOT_ARRAYS[fault]
    card, arrays = BASES["lstm", True]
    with pytest.raises(UserError, match=f"not a safetensors file: .*{message}") as error:
        Runtime(write_bundle(tmp_path, card, content(arrays)))
    assert error.value.where.endswith(BUNDLE_ARRAYS)


def test_damaged_bundles_are_refused_or_give_finite_probabilities(tmp_path: Path) -> None:
    """benchmarks/reliability/kernels.py does the same with more bundles, and with kernels that check their memory."""
    random = np.random.default_rng(0)
    bases, refused = list(BASES.values()), 0
    for number in range(200):
        card, content = damaged_bundle(*bases[number % len(bases)], random)
        folder = write_bundle(tmp_path, card, content)
        try:
            runtime = Runtime(folder)
        except UserError:
            refused += 1
            continue
        assert np.isfinite(runtime.flat_proba(TEXTS)).all(), number
    assert 100 < refused < 200


@pytest.mark.parametrize("name", [BUNDLE_CARD, BUNDLE_ARRAYS])
def test_a_file_that_is_too_large_is_not_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, arrays = BASES["lstm", True]
    folder = write_bundle(tmp_path, card, to_bytes(arrays))
    monkeypatch.setattr(bundle_file, "MAX_CARD_BYTES" if name == BUNDLE_CARD else "MAX_FILE_BYTES", 100)
    with pytest.raises(UserError, match=r"this file has .* bytes, at most 100 are possible") as error:
        Runtime(folder)
    assert error.value.where == str(folder / name)


def test_a_card_in_which_a_name_occurs_twice(tmp_path: Path) -> None:
    card, arrays = BASES["lstm", True]
    folder = write_bundle(tmp_path, card, to_bytes(arrays))
    text = (folder / BUNDLE_CARD).read_text("utf-8")
    (folder / BUNDLE_CARD).write_text(text.replace("{", '{"max_length": 3, ', 1), "utf-8")
    with pytest.raises(UserError, match=r"bundle\.json cannot be read: a name occurs twice"):
        Runtime(folder)


@pytest.mark.parametrize("replacement", ["other content", "truncated"])
def test_a_loaded_bundle_does_not_depend_on_its_files(replacement: str, tmp_path: Path) -> None:
    """Copying over the files of a bundle that is in use neither ends the program nor changes its output."""
    card, arrays = BASES["average", True]
    folder = write_bundle(tmp_path / "bundle", card, to_bytes(arrays))
    runtime = Runtime(folder)
    expected = Runtime(shutil.copytree(folder, tmp_path / "copy")).predict_proba(TEXTS)
    other = to_bytes({name: np.zeros_like(array) for name, array in arrays.items()})
    with (folder / BUNDLE_ARRAYS).open("r+b") as file:  # the same inode, as cp writes it
        file.truncate(0 if replacement == "truncated" else None)
        file.write(b"" if replacement == "truncated" else other)
    np.testing.assert_array_equal(runtime.predict_proba(TEXTS), expected)


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, arrays = BASES["lstm", True]
    folder = write_bundle(tmp_path, card, to_bytes(arrays))

    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        Runtime(folder)


def test_too_little_memory_for_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, arrays = BASES["lstm", True]
    folder = write_bundle(tmp_path, card, to_bytes(arrays))

    def fail(content: bytes) -> Arrays:
        raise MemoryError

    monkeypatch.setattr(bundle_file, "parse_arrays", fail)
    with pytest.raises(UserError, match="not enough memory for this bundle"):
        Runtime(folder)


@pytest.mark.parametrize("threads", [-1, MAX_THREADS + 1, 1.5, True, None, "2", 2**80])
def test_an_impossible_number_of_threads(threads: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a number of threads is needed, not"):
        Runtime(tmp_path, threads)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    card, arrays = BASES["lstm", True]
    return Runtime(write_bundle(tmp_path_factory.mktemp("sound"), card, to_bytes(arrays)))


class LongText(str):
    """A string that lies about its length."""

    def __len__(self) -> int:
        return 10**9


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "NoneType was given where a list of strings is needed"),
        (5, "int was given"),
        (b"bytes", "bytes was given"),
        ({"a": "b"}, "dict was given"),
        ("text", "one string was given"),
        ([b"bytes"], "not a string but bytes"),
        ([["a"]], "not a string but list"),
        ([float("nan")] * 300, "not a string but float"),
    ],
)
def test_texts_that_are_no_list_of_strings(texts: Any, message: str, runtime: Runtime) -> None:
    for method in (runtime.predict_proba, runtime.segment):
        with pytest.raises(UserError, match=message):
            method(texts)


def test_any_iterable_of_strings_is_accepted(runtime: Runtime) -> None:
    texts = ["球队", "银行股"] * 200
    expected = runtime.logits(texts)
    for same in (tuple(texts), np.array(texts), iter(texts), dict.fromkeys(texts).keys(), list(map(LongText, texts))):
        logits = runtime.logits(same)  # type: ignore[arg-type]
        np.testing.assert_array_equal(logits, expected[: len(logits)])
    assert runtime.logits([]).shape == (0, 3) and runtime.predict([]) == []


def test_too_little_memory_for_texts(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    for name in ("pack", "encode"):
        monkeypatch.setattr(f"distill.runtime.{name}", fail)
    with pytest.raises(UserError, match="not enough memory for these texts"):
        runtime.predict(["球队"])


def test_the_card_of_a_damaged_bundle_may_hold_anything(tmp_path: Path) -> None:
    for content in ('{"format": ' + "9" * 5000 + "}", "[" * 100_000, '{"format": NaN}', "null", "\ufeff{}", "\0"):
        (tmp_path / BUNDLE_CARD).write_text(content, "utf-8")
        with pytest.raises(UserError, match=r"bundle\.json cannot be read"):
            Runtime(tmp_path)
