"""A student that gives a text any number of labels: from its folder to its bundle, rejection and cascade."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import multi_label_student, titles
from numpy.typing import NDArray

import distill
from distill.errors import UserError
from distill.export.bundle import export_bundle
from distill.runtime import Cascade, Runtime, load
from distill.runtime.bundle import BUNDLE_CARD, read_bundle
from distill.runtime.label_sets import certainty, distinct, exceeding, names_of, set_probability, sigmoid

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


def test_a_set_is_rejected_by_the_probability_of_the_whole(runtime: Runtime) -> None:
    sets, rows = runtime.predict(TEXTS), runtime.predict_proba(TEXTS).tolist()
    together = np.array(
        [
            math.prod(p if label in labels else 1 - p for label, p in zip(runtime.labels, row, strict=True))
            for labels, row in zip(sets, rows, strict=True)
        ]
    )
    below = float(np.median(together))
    for name, empty in (("", []), ("其他", ["其他"])):
        found = runtime.predict(TEXTS, reject_below=below, reject_label=name)
        assert found == [labels if p >= below else empty for labels, p in zip(sets, together.tolist(), strict=True)]
    with pytest.raises(UserError, match="is a label of the data"):
        runtime.predict(TEXTS, reject_below=0.5, reject_label=runtime.labels[0])
    with pytest.raises(UserError, match="there is no task 'topic'; this student has only one"):
        runtime.predict(TEXTS, reject_below={"topic": 0.5})


class TeacherOfSets:
    """Is never sure of a label, but has thresholds that two of the three exceed; its labels have another order."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels, self.thresholds = labels[::-1], (0.9, 0.3, 0.1)

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.array([0.8, 0.4, 0.2], np.float32), (len(texts), 1))


def test_the_set_of_the_teacher_replaces_an_unsure_one(runtime: Runtime) -> None:
    probabilities = runtime.predict_proba(TEXTS)
    together = set_probability(probabilities, exceeding(probabilities, runtime.thresholds))
    below = float(np.median(together))
    cascade = Cascade(runtime, TeacherOfSets(runtime.labels), below)
    found, by_teacher = cascade.answer(TEXTS)
    assert by_teacher.tolist() == (together < np.float32(below)).tolist() and 0 < by_teacher.sum() < len(TEXTS)
    np.testing.assert_allclose(found[by_teacher], np.tile([0.2, 0.4, 0.8], (by_teacher.sum(), 1)), atol=1e-6)
    of_teacher = list(runtime.labels[:2])  # by its own thresholds
    expected = [
        of_teacher if is_by_teacher else labels
        for labels, is_by_teacher in zip(runtime.predict(TEXTS), by_teacher.tolist(), strict=True)
    ]
    assert cascade.predict(TEXTS) == expected
    rejected = cascade.predict(TEXTS, reject_below=0.1, reject_label="?")  # .2 * .4 * (1 - .8) of the teacher's
    assert [labels == ["?"] for labels in rejected] == (by_teacher | (together < np.float32(0.1))).tolist()
    assert cascade.top_k(TEXTS, 3)[int(by_teacher.argmax())][0] == (runtime.labels[2], pytest.approx(0.8))


def test_a_function_gives_sets_by_the_thresholds_of_the_student(runtime: Runtime) -> None:
    thresholds = np.array(runtime.thresholds, np.float32)
    just_above = Cascade(runtime, lambda texts: np.tile(np.nextafter(thresholds, np.float32(1)), (len(texts), 1)), 1)
    assert just_above.predict(TEXTS) == [list(runtime.labels)] * len(TEXTS)


def test_a_teacher_of_one_label_is_refused(runtime: Runtime, bundle: Path) -> None:
    of_one = load(bundle)
    assert sorted(of_one.labels) == sorted(runtime.labels)
    with pytest.raises(UserError, match="one of student and teacher gives a text one label, the other any number"):
        Cascade(runtime, of_one, 0.5)


def test_a_cascade_of_a_cascade_is_refused(runtime: Runtime) -> None:
    teacher = TeacherOfSets(runtime.labels)
    inner = Cascade(runtime, teacher, 0.5)
    for student, second in ((inner, teacher), (runtime, inner)):
        with pytest.raises(UserError, match="cannot be cascades that give a text any number of labels"):
            Cascade(student, second, 0.5)


def test_a_teacher_with_a_wrong_number_of_thresholds(runtime: Runtime) -> None:
    teacher = TeacherOfSets(runtime.labels)
    teacher.thresholds = (0.5,)
    with pytest.raises(UserError, match="the teacher has 3 labels and thresholds for 1"):
        Cascade(runtime, teacher, 0.5)


def test_the_probabilities_of_all_sets_sum_to_1() -> None:
    rows = np.random.default_rng(0).random((5, 4), np.float32)
    sets = itertools.product([False, True], repeat=4)
    total = sum(set_probability(rows, np.tile(np.array(one), (5, 1))) for one in sets)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    many = np.full((1, 5000), 1e-30, np.float32)
    assert set_probability(many, np.zeros((1, 5000), np.bool_)) == 1
    assert set_probability(many, np.ones((1, 5000), np.bool_)) == 0


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
