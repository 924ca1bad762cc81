"""The schema of a bundle's arrays: problems are named, docs/runtime.md has its table, older bundles match it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NETWORKS
from numpy.typing import NDArray

from distill.config import ExportSettings, StudentSettings
from distill.errors import UserError
from distill.export.bundle import network_arrays
from distill.models.build import build_student
from distill.models.student import Student
from distill.runtime import schema
from distill.runtime.bundle import read_bundle

Arrays = dict[str, NDArray[Any]]
ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "bundle"


@pytest.fixture
def card() -> dict[str, Any]:
    return read_bundle(FIXTURE).card


@pytest.fixture
def arrays() -> Arrays:
    return dict(read_bundle(FIXTURE).arrays)


def test_an_older_bundle_matches(card: dict[str, Any], arrays: Arrays) -> None:
    assert schema.problems(card, arrays) == []
    assert {spec.name for spec in schema.specs_of(card)} == set(arrays)


@pytest.mark.parametrize("ngrams", [0, 64])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_arrays_of_every_network_match(name: str, ngrams: int, arrays: Arrays) -> None:
    words = ["<pad>", "<unk>", *(f"w{i}" for i in range(83))]
    settings = StudentSettings(hidden=7, ngrams=ngrams, **NETWORKS[name])
    student = build_student(settings, np.ones((85, 10), np.float32), words, 3).for_inference()
    assert isinstance(student, Student)
    network, exported = network_arrays(student)
    exported |= {key: array for key, array in arrays.items() if key.startswith("lexicon.")}
    card = {"network": network, "labels": ["a", "b", "c"], "ngram_characters": 4 * ngrams}
    assert schema.problems(card, exported) == []
    assert {spec.name for spec in schema.specs_of(card)} == set(exported)


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("words", None, "array words is missing, int16 or int8 (85, 8) is needed"),
        ("words", np.zeros((85, 8), np.float32), "array words is float32 (85, 8), int16 or int8 (85, 8) is needed"),
        ("words.scale", np.zeros(9, np.float32), "array words.scale is float32 (9,), float32 (8,) is needed"),
        ("bias.back", np.zeros((4, 8), np.float32), "array bias.back is float32 (4, 8), float32 (32,) is needed"),
        (
            "input.ahead",
            np.zeros((8, 24), np.float32),
            "array input.ahead is float32 (8, 24), float32 (8, 32) is needed",
        ),
        ("lexicon.words", np.zeros(84, np.int32), "array lexicon.words is int32 (84,), int32 (85,) is needed"),
        ("lexicon.start", np.zeros(3), "array lexicon.start is float64 (3,), float64 (4,) is needed"),
        ("ngrams.row_of", None, "array ngrams.row_of is missing, uint16 (buckets,) is needed"),
        ("classifier.bias", np.zeros((), np.float32), "array classifier.bias is float32 (), float32 (3,) is needed"),
    ],
)
def test_a_problem_names_the_array_what_is_needed_and_what_was_found(
    name: str, array: NDArray[Any] | None, problem: str, card: dict[str, Any], arrays: Arrays
) -> None:
    changed = {key: value for key, value in arrays.items() if key != name} | ({} if array is None else {name: array})
    assert schema.problems(card, changed) == [problem]
    with pytest.raises(UserError, match=f"this bundle is broken: {re.escape(problem)}"):
        schema.check(card, changed, "bundle", "hint")


def test_the_first_problems_are_shown(card: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"array words is missing, .*; and 20 more -> hint"):
        schema.check(card, {}, "bundle", "hint")


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ({"architecture": "rnn"}, "unknown network 'rnn', one of bilstm, textcnn, average is needed"),
        ({"architecture": "bilstm"}, "network.hidden is None, a whole number from 1 to 16384 is needed"),
        (
            {"architecture": "bilstm", "hidden": True},
            "network.hidden is True, a whole number from 1 to 16384 is needed",
        ),
        (
            {"architecture": "bilstm", "hidden": 8, "cell": "rnn"},
            "network.cell is 'rnn', one of lstm, gru, mingru, sru, qrnn is needed",
        ),
        (
            {"architecture": "bilstm", "hidden": 8, "cell": "sru", "sentence": True},
            "network.sentence is True, false is needed",
        ),
        (
            {"architecture": "textcnn", "hidden": 8, "spans": 0},
            "network.spans is 0, a whole number from 1 to 16 is needed",
        ),
        ({"architecture": "bilstm", "hidden": 8, "cell": "gru"}, "network.sentence is None, true or false is needed"),
        ({}, "unknown network None"),
        ([], r"network is \[\], an object is needed"),
    ],
)
def test_a_card_with_another_network(network: Any, problem: str, card: dict[str, Any], arrays: Arrays) -> None:
    with pytest.raises(UserError, match=f"this bundle is broken: {problem}"):
        schema.check({**card, "network": network}, arrays, "bundle", "hint")


def test_sizes_depend_on_the_card(card: dict[str, Any]) -> None:
    gru = {**card, "network": {**card["network"], "cell": "gru"}}
    assert schema.sizes_of(gru) == {"classes": 3, "pools": 4, "hidden": 8, "gates": 3}
    textcnn = {**card, "network": {"architecture": "textcnn", "hidden": 8, "spans": 4}, "ngram_characters": 0}
    assert schema.sizes_of(textcnn) == {"classes": 3, "pools": 2, "hidden": 8, "spans": 4, "taps": 10}
    assert not any(spec.name.startswith("ngrams") for spec in schema.specs_of(textcnn))


def test_the_table_in_the_documents_is_current() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8")
    assert "| `recurrent_bias.back` | float32 | (gates * hidden) | finite, up to ±1e6 |" in page
    assert module.with_tables(page) == page, "python docs/make_reference.py"


@pytest.mark.parametrize(
    "examples",
    ["一条", [1], [""], [" "], ["一\n条"], ["长" * 201], ["一条"] * 21, [["一条"]], {"一条": 1}, ["half \ud800"]],
)
def test_impossible_examples_are_refused(examples: Any, card: dict[str, Any], arrays: Arrays) -> None:
    with pytest.raises(UserError, match=r"examples is .*, a list of at most 20 texts of 1 to 200 characters is needed"):
        schema.check({**card, "examples": examples}, arrays, "bundle", "hint")


def test_a_bundle_may_have_examples(card: dict[str, Any], arrays: Arrays) -> None:
    assert "examples" not in card
    schema.check({**card, "examples": ["长" * 200] * 20}, arrays, "bundle", "hint")
    assert ExportSettings(examples=schema.MAX_EXAMPLES).examples == 20
    with pytest.raises(UserError, match="--examples is 21"):
        ExportSettings(examples=schema.MAX_EXAMPLES + 1)
