"""A student that gives a text any number of labels: from its folder to its bundle, and what does not apply to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import multi_label_student, titles

import distill
from distill.errors import UserError
from distill.export.bundle import export_bundle
from distill.runtime import Cascade, Runtime, load
from distill.runtime.bundle import BUNDLE_CARD, read_bundle
from distill.runtime.label_sets import certainty, distinct, exceeding, names_of, sigmoid

TEXTS = [text for text, _ in titles(0, 120)]


@pytest.fixture(scope="module")
def runtime(several_bundle: Path) -> Runtime:
    return load(several_bundle)


def edited(bundle: Path, folder: Path, **values: Any) -> Runtime:
    """The bundle with other values in its card."""
    for path in bundle.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / BUNDLE_CARD).write_text(json.dumps(read_bundle(bundle).card | values), "utf-8")
    return load(folder)


def test_the_bundle_predicts_as_its_student(several: Path, runtime: Runtime) -> None:
    student = distill.load_student(several)
    assert runtime.thresholds == student.thresholds and len(runtime.thresholds) == len(runtime.labels)
    expected = student.predict_proba(TEXTS)
    np.testing.assert_allclose(runtime.predict_proba(TEXTS), expected, atol=2e-3)
    np.testing.assert_allclose(sigmoid(student.logits(TEXTS).numpy(), student.temperature), expected, atol=1e-5)
    is_clear = (np.abs(expected - np.array(student.thresholds)) > 2e-3).all(axis=1)
    pairs = zip(runtime.predict(TEXTS), student.predict(TEXTS), is_clear, strict=True)
    assert is_clear.mean() > 0.8 and all(ours == theirs for ours, theirs, clear in pairs if clear)


def test_label_sets_differ_and_follow_the_thresholds(runtime: Runtime) -> None:
    above = runtime.predict_proba(TEXTS) > np.array(runtime.thresholds, np.float32)
    label_sets = runtime.predict(TEXTS)
    assert label_sets == [
        [label for label, is_above in zip(runtime.labels, row, strict=True) if is_above] for row in above
    ]
    assert {len(labels) for labels in label_sets} >= {0, 1, 2}


def test_one_text_gets_the_labels_that_it_gets_among_others(runtime: Runtime) -> None:
    assert [runtime.predict([text])[0] for text in TEXTS] == runtime.predict(TEXTS)
    np.testing.assert_allclose(runtime.predict_proba(TEXTS[:1]), runtime.predict_proba(TEXTS)[:1], atol=1e-6)
    assert runtime.predict([]) == [] and runtime.predict_proba([]).shape == (0, len(runtime.labels))


def test_the_most_probable_labels_do_not_depend_on_thresholds(
    several_bundle: Path, runtime: Runtime, tmp_path: Path
) -> None:
    never = edited(several_bundle, tmp_path, thresholds=[1] * len(runtime.labels))
    assert never.predict(TEXTS) == [[]] * len(TEXTS)
    top = never.top_k(TEXTS, 2)
    assert top == runtime.top_k(TEXTS, 2)
    probabilities = runtime.predict_proba(TEXTS)
    assert [row[0][1] for row in top] == probabilities.max(axis=1).tolist()


def test_a_single_label_is_given_or_not(tmp_path: Path) -> None:
    runtime = load(export_bundle(multi_label_student(tmp_path / "student", ("体育",)), tmp_path / "bundle"))
    assert runtime.predict_proba(TEXTS).shape == (len(TEXTS), 1)
    assert sorted({len(labels) for labels in runtime.predict(TEXTS)}) == [0, 1]


def test_only_such_a_bundle_has_format_2(several_bundle: Path, bundle: Path) -> None:
    assert read_bundle(several_bundle).card["format"] == 2
    card = read_bundle(bundle).card
    assert card["format"] == 1 and "thresholds" not in card and load(bundle).thresholds == ()


def test_rejection_and_cascade_are_refused(runtime: Runtime) -> None:
    with pytest.raises(
        UserError, match="so reject_below does not apply -> leave it out, and ask for the probabilities"
    ):
        runtime.predict(TEXTS, reject_below=0.5)
    with pytest.raises(UserError, match="so cascade does not apply"):
        Cascade(runtime, runtime.predict_proba, 0.5)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (500, 3), (200, 17)])
def test_distinct_label_sets(shape: tuple[int, int]) -> None:
    has_class = np.random.default_rng(0).random(shape) < 0.5
    sets, numbers = distinct(has_class)
    np.testing.assert_array_equal(sets[numbers], has_class)
    assert len(sets) == len({tuple(row) for row in has_class.tolist()})
    names = names_of(has_class, [str(index) for index in range(shape[1])])
    assert names == [[str(index) for index in np.flatnonzero(row)] for row in has_class]


def test_the_certainty_is_that_of_the_least_certain_decision() -> None:
    probabilities = np.array([[0.9, 0.3], [0.6, 0.05], [0.2, 0.1]], np.float32)
    has_class = exceeding(probabilities, (0.5, 0.25))
    np.testing.assert_allclose(certainty(probabilities, has_class), [0.3, 0.6, 0.8], rtol=1e-6)
