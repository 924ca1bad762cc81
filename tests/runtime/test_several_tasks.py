"""A student of several tasks: from its folder to its bundle, rejection and cascade of each task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import titles
from numpy.typing import NDArray

import distill
from distill.errors import UserError
from distill.export.bundle import export_bundle
from distill.models.checkpoint import load_student_parts, save_student
from distill.models.student import Student
from distill.models.tokenizer import WordTokenizer
from distill.runtime import Cascade, Runtime, Task, load
from distill.runtime.bundle import read_bundle
from distill.runtime.label_sets import exceeding, set_probability
from distill.runtime.tasks import flat_labels, tasks_of

TEXTS = [text for text, _ in titles(0, 120)]


@pytest.fixture(scope="module")
def runtime(bundle_of_tasks: Path) -> Runtime:
    return load(bundle_of_tasks)


def test_outputs_follow_one_another() -> None:
    tasks = tasks_of([{"name": "a", "labels": ["x", "y"]}, {"name": "b", "labels": ["x"], "thresholds": [1]}])
    assert tasks == (Task("a", ("x", "y")), Task("b", ("x",), (1.0,), first=2))
    assert [task.columns for task in tasks] == [slice(0, 2), slice(2, 3)]
    assert flat_labels(tasks) == ("a/x", "a/y", "b/x") and tasks_of([task.card for task in tasks]) == tasks


def test_only_such_a_bundle_has_format_3(bundle_of_tasks: Path, runtime: Runtime, bundle: Path) -> None:
    card = read_bundle(bundle_of_tasks).card
    assert card["format"] == 3 and card["temperature"] == 1 and "thresholds" not in card
    assert [task.name for task in runtime.tasks] == ["topic", "sign"] and runtime.thresholds == ()
    assert runtime.labels == flat_labels(runtime.tasks) and runtime.labels[-2:] == ("sign/新", "sign/热")
    assert "tasks" not in read_bundle(bundle).card and load(bundle).tasks == ()


def test_each_task_is_decided_as_by_a_student_of_its_own(of_tasks: Path, runtime: Runtime, tmp_path: Path) -> None:
    """The parts of the classifier, saved as two students, one of one label per text and one of several."""
    for task in runtime.tasks:
        model, tokenizer, *_ = load_student_parts(of_tasks)
        assert isinstance(model, Student) and isinstance(tokenizer, WordTokenizer)
        classifier = model.classifier
        classifier.weight.data, classifier.bias.data = (
            values[task.columns].clone() for values in (classifier.weight.data, classifier.bias.data)
        )
        model.config = type(model.config)(**{**vars(model.config), "classes": len(task.labels)})
        (folder := tmp_path / task.name).mkdir()
        save_student(folder, model, tokenizer, task.labels, thresholds=task.thresholds)
        alone = load(export_bundle(folder, tmp_path / f"{task.name}.bundle"))
        np.testing.assert_allclose(runtime.predict_proba(TEXTS)[task.name], alone.predict_proba(TEXTS), atol=1e-6)
        assert runtime.predict(TEXTS)[task.name] == alone.predict(TEXTS)
        ours, theirs = runtime.top_k(TEXTS, 2)[task.name], alone.top_k(TEXTS, 2)
        assert [[label for label, _ in row] for row in ours] == [[label for label, _ in row] for row in theirs]
        assert len({str(found) for found in alone.predict(TEXTS)}) > 1


def test_the_bundle_predicts_as_its_student(of_tasks: Path, runtime: Runtime) -> None:
    student = distill.load_student(of_tasks)
    assert student.tasks == runtime.tasks and student.labels == runtime.labels
    expected, found = student.predict_proba(TEXTS), runtime.predict_proba(TEXTS)
    assert list(expected) == list(found) == ["topic", "sign"]
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-3)
    np.testing.assert_allclose(found["topic"].sum(axis=1), 1, rtol=1e-5)
    assert student.predict(TEXTS[:5]) == runtime.predict(TEXTS[:5])
    with pytest.raises(UserError, match="a model of several tasks, topic, sign, cannot take other labels"):
        student.grouped([[0], [1]], ["a", "b"])


def test_one_text_and_no_text(runtime: Runtime) -> None:
    alone, among = runtime.predict(TEXTS[:1]), runtime.predict(TEXTS)
    assert alone == {name: labels[:1] for name, labels in among.items()}
    assert runtime.predict([]) == {"topic": [], "sign": []} and runtime.flat_proba([]).shape == (0, 5)


def test_a_task_of_fewer_labels_gives_all(runtime: Runtime) -> None:
    top = runtime.top_k(TEXTS[:1], 3)
    assert [len(rows[0]) for rows in top.values()] == [3, 2]
    assert [p for _, p in top["sign"][0]] == sorted(runtime.predict_proba(TEXTS[:1])["sign"][0].tolist(), reverse=True)
    with pytest.raises(UserError, match="must be from 1 to 3, not 4"):
        runtime.top_k(TEXTS, 4)


def confidences(runtime: Runtime) -> dict[str, NDArray[np.float32]]:
    """The highest probability of the topic, and that of the whole set of signs."""
    rows = runtime.predict_proba(TEXTS)
    has_sign = exceeding(rows["sign"], runtime.tasks[1].thresholds)
    return {"topic": rows["topic"].max(axis=1), "sign": set_probability(rows["sign"], has_sign)}


def test_each_task_rejects_texts_for_itself(runtime: Runtime) -> None:
    found = confidences(runtime)
    below = {name: float(np.median(values)) for name, values in found.items()}
    plain = runtime.predict(TEXTS)
    for wanted in (below, below["topic"], {"topic": below["topic"]}, {"sign": below["sign"]}):
        rejected = runtime.predict(TEXTS, reject_below=wanted, reject_label="?")
        for name, empty in (("topic", "?"), ("sign", ["?"])):
            limit = np.float32(wanted.get(name, 0) if isinstance(wanted, dict) else wanted)
            pairs = zip(plain[name], (found[name] < limit).tolist(), strict=True)
            assert rejected[name] == [empty if is_unsure else label for label, is_unsure in pairs]
    assert (found["topic"] < below["topic"]).tolist() != (found["sign"] < below["sign"]).tolist()
    with pytest.raises(UserError, match="there is no task 'tone'; the tasks are topic, sign"):
        runtime.predict(TEXTS, reject_below={"tone": 0.5})
    with pytest.raises(UserError, match="a probability from 0 to 1 is needed"):
        runtime.predict(TEXTS, reject_below={"sign": 1.5})
    for label in ("体育", "热"):
        with pytest.raises(UserError, match="is a label of the data"):
            runtime.predict(TEXTS, reject_below=0.9, reject_label=label)


class SignTeacher:
    """Gives every text the first of its labels, which is the last of the student's."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels, self.thresholds, self.calls = labels[::-1], (0.2,) * len(labels), list[list[str]]()

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        return np.tile(np.array([0.3, 0.1], np.float32), (len(texts), 1))


def test_each_task_has_a_cascade_of_its_own(runtime: Runtime) -> None:
    found, plain, sign = confidences(runtime), runtime.predict(TEXTS), SignTeacher(runtime.tasks[1].labels)
    below = {name: float(np.median(values)) for name, values in found.items()}
    cascade = Cascade(runtime, {"topic": lambda texts: [(0.0, 0.0, 1.0)] * len(texts), "sign": sign}, below)
    probabilities, by_teacher = cascade.answer(TEXTS)
    answers = {"topic": runtime.tasks[0].labels[2], "sign": [runtime.tasks[1].labels[1]]}
    for name, answer in answers.items():
        assert by_teacher[name].tolist() == (found[name] < np.float32(below[name])).tolist()
        pairs = zip(plain[name], by_teacher[name].tolist(), strict=True)
        assert cascade.predict(TEXTS)[name] == [answer if is_by_teacher else own for own, is_by_teacher in pairs]
    assert sorted(sign.calls[0]) == sorted(np.array(TEXTS)[by_teacher["sign"]]) and len(sign.calls) == 3
    assert [list(values) for values in (probabilities, by_teacher, cascade.top_k(TEXTS, 1))] == [["topic", "sign"]] * 3
    alone = Cascade(runtime, {"sign": sign}, 1)
    assert alone.predict(TEXTS)["topic"] == plain["topic"] and not alone.answer(TEXTS)[1]["topic"].any()


def test_teachers_that_are_not_those_of_the_tasks(runtime: Runtime) -> None:
    sign = SignTeacher(runtime.tasks[1].labels)
    for teacher, expected in (
        (sign, "needs a dictionary of teachers by the task's name"),
        ({"tone": sign}, "there is no task 'tone' -> name topic, sign"),
        ({"topic": sign}, "the teacher has other labels than the student"),
    ):
        with pytest.raises(UserError, match=expected):
            Cascade(runtime, teacher, 0.5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there is no task 'tone'"):
        Cascade(runtime, {"sign": sign}, {"tone": 0.5})
    with pytest.raises(UserError, match="a cascade needs the teacher of one task at least"):
        Cascade(runtime, {}, 0.5)


def test_a_cascade_has_a_threshold_for_every_teacher_and_no_other(runtime: Runtime) -> None:
    teachers = {"sign": SignTeacher(runtime.tasks[1].labels)}
    for below in ({}, {"topic": 0.5}, {"topic": 7, "sign": 0.5}):
        with pytest.raises(UserError, match=r"thresholds and teachers are of different tasks: .*; sign -> name the"):
            Cascade(runtime, teachers, below)
    for wrong in (7, {"sign": 7}):
        with pytest.raises(UserError, match="a probability from 0 to 1 is needed"):
            Cascade(runtime, teachers, wrong)


def test_a_cascade_of_a_cascade_of_tasks_is_refused(runtime: Runtime) -> None:
    teachers = {"sign": SignTeacher(runtime.tasks[1].labels)}
    inner = Cascade(runtime, teachers, 0.5)
    for student, task, teacher in ((inner, "topic", lambda texts: texts), (runtime, "sign", inner)):
        with pytest.raises(UserError, match=r"cannot be cascades|other labels"):
            Cascade(student, {task: teacher}, 0.5)
