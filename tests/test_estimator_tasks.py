"""The estimator with several tasks: labels in columns with gaps, teachers by task, storage, and messages."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import SUBJECTS, titles
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_score

from distill.cli import main
from distill.errors import DistillWarning, InputError, InputTypeError, UserError
from distill.estimator import DistilledTextClassifier
from distill.export import model_card
from distill.runtime import load
from distill.runtime.bundle import read_bundle

pytestmark = pytest.mark.usefixtures("small_dictionary")
TINY = {"vectors": "none", "ngrams": 512, "student_hidden": 8, "student_batch": 16, "student_epochs": 40}
TINY |= {"student_lr": 2e-2, "vector_lr": 5e-2}
MOODS = {"好评": "非常喜欢", "差评": "太糟糕了"}
TOPICS = [topic for _, topic in titles(0, 90)]
MOOD = [list(MOODS)[number // 3 % 2] for number in range(90)]
TEXTS = [title + MOODS[mood] for (title, _), mood in zip(titles(0, 90), MOOD, strict=True)]
FULL = pd.DataFrame({"topic": TOPICS, "mood": MOOD})
GAPS = FULL.copy()  # every fifth text has no topic, every third one no mood
GAPS.loc[::5, "topic"], GAPS.loc[::3, "mood"] = None, np.nan


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of temporary files, in which every test must leave nothing."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not [path.name for path in folder.iterdir() if path.name.startswith("distill")]


def tiny(**parameters: Any) -> DistilledTextClassifier:
    """A classifier that learns from labels alone in a moment."""
    given = {"teacher_model": None, "student": "average", "settings": TINY, "threads": 1, "verbose": 0, **parameters}
    return DistilledTextClassifier(**given)


def fit_quietly(classifier: Any, texts: Any, labels: Any, **further: Any) -> Any:
    """Fit without the warnings that such few texts give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DistillWarning)
        return classifier.fit(texts, labels, **further)


@pytest.fixture(scope="module")
def fitted(small_dictionary: None) -> DistilledTextClassifier:
    """A classifier of two tasks; tests do not change it."""
    return fit_quietly(tiny(), TEXTS, GAPS)


def test_a_table_with_gaps(fitted: DistilledTextClassifier) -> None:
    assert {name: classes.tolist() for name, classes in fitted.classes_.items()} == {
        "topic": sorted(SUBJECTS),
        "mood": sorted(MOODS),
    }
    assert fitted.multilabel_ == {"topic": False, "mood": False} and 0.9 < fitted.dev_score_ <= 1
    predicted, probabilities = fitted.predict(TEXTS), fitted.predict_proba(TEXTS)
    assert list(predicted.columns) == ["topic", "mood"] and (predicted == FULL).to_numpy().mean() > 0.85
    for name, classes in fitted.classes_.items():
        assert probabilities[name].shape == (90, len(classes)) and np.allclose(probabilities[name].sum(1), 1)
        assert (classes[probabilities[name].argmax(1)] == predicted[name]).all()
    empty = fitted.predict([])
    assert empty.shape == (0, 2) and fitted.predict_proba([])["topic"].shape == (0, 3)


def test_predictions_have_the_index_of_the_texts(fitted: DistilledTextClassifier) -> None:
    texts = pd.Series(TEXTS[:3], index=[7, 5, 6])
    assert fitted.predict(texts).index.tolist() == [7, 5, 6]
    assert fitted.predict(TEXTS[:3]).index.tolist() == [0, 1, 2]


def test_the_score_is_the_mean_over_the_tasks_of_the_labelled_cells(fitted: DistilledTextClassifier) -> None:
    wrong = GAPS.copy()
    wrong["mood"] = wrong["mood"].map({"好评": "差评", "差评": "好评"})
    predicted = fitted.predict(TEXTS)
    topics, moods = ((predicted[name] == GAPS[name])[GAPS[name].notna()].mean() for name in GAPS)
    assert fitted.score(TEXTS, GAPS) == pytest.approx((topics + moods) / 2)
    assert fitted.score(TEXTS, wrong) == pytest.approx((topics + 1 - moods) / 2)
    assert fitted.score(TEXTS, wrong.assign(mood=None)) == topics, "a task without labels does not count"
    weights = (predicted["topic"] == GAPS["topic"]) + 0.0
    assert fitted.score(TEXTS, {**wrong, "mood": [None] * 90}, sample_weight=weights) == 1
    with pytest.raises(InputError, match="y: there is no column of the task mood"):
        fitted.score(TEXTS, GAPS[["topic"]])
    with pytest.raises(InputError, match="y: no text has a label"):
        fitted.score(TEXTS, {"topic": [None] * 90, "mood": [None] * 90})


def test_the_model_is_that_of_the_command_line(tmp_path: Path) -> None:
    """The same texts, settings and seed give the same bundle, to the bit."""
    table = GAPS.assign(text=TEXTS)
    (tmp_path / "data").mkdir()
    table.to_csv(tmp_path / "data/train.csv", index=False)
    others = [(title + MOODS["好评"], topic, "好评") for title, topic in titles(90, 100)]
    pd.DataFrame(others, columns=["text", "topic", "mood"]).to_csv(tmp_path / "data/test.csv", index=False)
    flags = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    common = ["--data", str(tmp_path / "data"), "--label_column", "topic,mood", "--run", str(tmp_path / "run")]
    common += ["--threads", "1", "--seed", "7"]
    train = ["--mode", "train_student", "--a", "1", "--T", "0", "--student", "average", *flags]
    assert main([*common, *train]) == 0 and main([*common, "--mode", "export"]) == 0
    exported = fit_quietly(tiny(random_state=7), TEXTS, GAPS).export(tmp_path / "exported")
    for name in ("bundle.json", "bundle.safetensors"):
        assert (exported / name).read_bytes() == (tmp_path / "run/bundle" / name).read_bytes(), name


def test_the_cards_name_the_tasks(tmp_path: Path) -> None:
    run = tmp_path / "run"
    exported = fit_quietly(tiny(run_folder=run), TEXTS, GAPS).export(tmp_path / "exported")
    for folder in (exported, run / "student_alone"):
        card = model_card.read(folder)
        assert card and [task["name"] for task in card.tasks] == ["topic", "mood"]
        assert [len(task["labels"]) for task in card.tasks] == [3, 2]
    assert "Answers 2 questions" in (exported / "README.md").read_text(encoding="utf-8")
    of_task = model_card.read(run / "tasks/mood/student_alone")
    assert of_task and of_task.tasks == () and of_task.labels == tuple(sorted(MOODS))


def test_storage_and_copies(fitted: DistilledTextClassifier, tmp_path: Path) -> None:
    predicted, probabilities = fitted.predict(TEXTS), fitted.predict_proba(TEXTS)
    pickled = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    saved = DistilledTextClassifier.load(fitted.save(tmp_path / "saved"))
    for other in (pickled, saved):
        assert other.predict(TEXTS).equals(predicted) and other.multilabel_ == fitted.multilabel_
        assert (other.predict_proba(TEXTS)["mood"] == probabilities["mood"]).all()
    assert not hasattr(clone(fitted), "classes_")
    exported = fitted.export(tmp_path / "exported")
    loaded = DistilledTextClassifier.load(exported).predict(TEXTS)
    assert {name: labels.tolist() for name, labels in loaded.items()} == load(exported).predict(TEXTS)
    assert loaded["topic"].tolist() == predicted["topic"].tolist(), "a plain bundle gives dictionaries"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": {"topic": {"classes": ["体育"], "dtype": "<U2"}}}, "its classes are not the labels of the bundle"),
        ({"tasks": ["topic"]}, "tasks is not an object of objects"),
        ({"tasks": {"topic": 1}}, "tasks is not an object of objects"),
    ],
)
def test_a_damaged_file_of_classes(
    fitted: DistilledTextClassifier, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = fitted.save(tmp_path / "saved") / "estimator.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        DistilledTextClassifier.load(tmp_path / "saved")


def test_a_dictionary_with_several_kinds_of_labels(tmp_path: Path) -> None:
    """Numbers with gaps, lists, dictionaries of 0 and 1, and a matrix: each comes back as it was given."""
    numbers = GAPS["topic"].map({"体育": 30, "财经": 4, "科技": 5})
    both = [
        sorted({topic, mood}) if number % 7 else []
        for number, (topic, mood) in enumerate(zip(TOPICS, MOOD, strict=True))
    ]
    names = sorted([*SUBJECTS, *MOODS])
    indicators: list[Any] = [{name: int(name in labels) for name in names} for labels in both]
    indicators[4] = None
    matrix = np.array([[name in labels for name in names] for labels in both])
    labels = {"number": numbers, "lists": both, "indicators": indicators, "matrix": matrix, "flag": matrix[:, 0]}
    fitted = fit_quietly(tiny(), TEXTS, labels)
    assert numbers.dtype == float and fitted.classes_["number"].tolist() == [4, 5, 30]
    assert [fitted.classes_[name].dtype.kind for name in labels] == ["i", "U", "U", "i", "b"]
    assert list(fitted.multilabel_.values()) == [False, True, True, True, False]
    predicted = fitted.predict(TEXTS)
    assert isinstance(predicted, dict) and predicted["matrix"].shape == (90, 5)
    right = [
        np.mean([given == gold for given, gold in zip(predicted["number"], numbers, strict=True) if gold > 0]),
        np.mean([given == gold for given, gold in zip(predicted["lists"], both, strict=True)]),
        np.mean([predicted["indicators"][row] == both[row] for row in range(90) if row != 4]),
        (predicted["matrix"] == matrix).all(1).mean(),
        (predicted["flag"] == matrix[:, 0]).mean(),
    ]
    assert fitted.score(TEXTS, labels) == pytest.approx(np.mean(right)) and np.mean(right) > 0.7
    saved = DistilledTextClassifier.load(fitted.save(tmp_path / "saved")).predict(TEXTS)
    assert [*map(type, saved.values())] == [*map(type, predicted.values())]
    assert all(np.array_equal(saved[name], predicted[name]) for name in ("number", "matrix", "flag"))
    assert saved["lists"] == predicted["lists"]
    with pytest.raises(InputError, match="fitted with lists of labels"):
        fitted.score(TEXTS, {**labels, "lists": matrix})


def test_columns_of_0_and_1_are_labels_of_one_task_but_with_gaps_they_are_tasks() -> None:
    matrix = pd.DataFrame({"sport": [topic == "体育" for topic in TOPICS], "good": [mood == "好评" for mood in MOOD]})
    one = fit_quietly(tiny(), TEXTS, matrix)
    assert one.multilabel_ is True and one.predict(TEXTS).shape == (90, 2)
    two = fit_quietly(tiny(), TEXTS, matrix.astype(object).where(GAPS.notna().to_numpy(), None))
    assert two.multilabel_ == {"sport": False, "good": False}
    assert two.predict(TEXTS).dtypes.tolist() == [bool, bool] and two.score(TEXTS, matrix) > 0.9
    table = pd.DataFrame({"topic": TOPICS, "both": [[topic, mood] for topic, mood in zip(TOPICS, MOOD, strict=True)]})
    lists = fit_quietly(tiny(), TEXTS, table)
    assert lists.multilabel_ == {"topic": False, "both": True}
    assert isinstance(lists.predict(TEXTS)["both"][0], list)


def test_functions_as_teachers_and_unlabelled_texts(tmp_path: Path) -> None:
    """With the weight 0 of the labels, which are wrong here, a student learns what the teachers say."""
    asked: dict[str, list[str]] = {"topic": [], "mood": []}

    def by_topic(texts: list[str]) -> list[str]:
        asked["topic"] += texts
        return [next((topic for topic, words in SUBJECTS.items() if text.startswith(words)), "体育") for text in texts]

    def by_mood(texts: list[str]) -> list[str]:
        asked["mood"] += texts
        return ["差评" if MOODS["差评"] in text else "好评" for text in texts]

    by_topic.confidence = by_mood.confidence = 0.95  # type: ignore[attr-defined]
    wrong = FULL.apply(lambda column: np.roll(column, 1 if column.name == "topic" else 3))
    classifier = tiny(settings={**TINY, "a": 0, "linear_weight": 0, "student_epochs": 80}, run_folder=tmp_path / "run")
    teachers = {"topic": by_topic, "mood": [by_mood]}
    fit_quietly(classifier, TEXTS, wrong, teacher=teachers, unlabeled=["一场比赛", TEXTS[0]])
    assert classifier.score(TEXTS, FULL) > 0.9 and classifier.score(TEXTS, wrong) < 0.2
    assert all({*TEXTS, "一场比赛"} <= set(texts) for texts in asked.values())
    config = json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))["data"]
    assert (config["unlabelled"], config["test"], config["train"] + config["dev"]) == (1, 0, 90)


def test_own_teachers_are_kept_in_the_run_folder(tiny_bert: Path, tmp_path: Path) -> None:
    settings = {**TINY, "teacher_epochs": 1, "general_words": 5, "general_sentences": 0, "dictionary": 5}
    classifier = tiny(teacher_model=tiny_bert, settings=settings, run_folder=tmp_path / "run")
    fit_quietly(classifier, TEXTS, GAPS)
    records = sorted((tmp_path / "run").rglob("teacher/made_from.json"))
    assert [path.parents[1].name for path in records] == ["mood", "topic"]
    before = [path.stat().st_mtime_ns for path in records]
    teacher = tmp_path / "run/tasks/mood/teacher"
    fit_quietly(classifier, TEXTS, GAPS)
    assert before == [path.stat().st_mtime_ns for path in records]
    fit_quietly(tiny(teacher_model=tiny_bert, settings=settings), TEXTS, GAPS, teacher={"mood": teacher})


def test_a_smaller_bundle(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Words that do not fit are left out, and a message says what that costs all tasks together."""
    whole = fit_quietly(tiny(run_folder=tmp_path / "run"), TEXTS, GAPS)
    size = sum(array.nbytes for array in read_bundle(whole.export(tmp_path / "bundle")).arrays.values())
    settings = {**TINY, "max_mb": (size - 20) / 1e6}
    with caplog.at_level(logging.INFO, "distill"):
        fit_quietly(tiny(settings=settings, run_folder=tmp_path / "run", verbose=1), TEXTS, GAPS)
    assert (
        f"dev mean score of the tasks {whole.dev_score_:.4f}, with all words in 16 bits {whole.dev_score_:.4f}"
        in caplog.text
    )


def test_cross_validation() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DistillWarning)
        scores = cross_val_score(tiny(), pd.Series(TEXTS), GAPS, cv=KFold(2))
    assert scores.shape == (2,) and scores.min() > 0.6


def test_warnings_name_the_task() -> None:
    with pytest.warns(DistillWarning) as warned:
        tiny().fit([*TEXTS, TEXTS[1], " "], pd.concat([FULL, FULL.iloc[[1, 0]].assign(mood=["差评", "好评"])]))
    messages = {str(warning.message) for warning in warned}
    assert "topic: repeated texts: 1; only the first of each is used" in messages
    assert any(message.startswith("mood: texts with two labels: 1; they are left out") for message in messages)
    assert sum("of the texts are empty" in message for message in messages) == 1


@pytest.mark.parametrize(
    ("labels", "further", "kind", "message"),
    [
        ({}, {}, InputError, "labels: there are no tasks"),
        ({"topic": TOPICS[1:]}, {}, InputError, r"labels\['topic'\]: 90 texts and 89 labels"),
        ({"topic": "体育"}, {}, InputTypeError, r"labels\['topic'\]: a list is needed, not str"),
        ({3: TOPICS}, {}, InputTypeError, r"labels\[3\]: the name of a task is a string.*'task 3'"),
        ({"a/b": TOPICS}, {}, InputError, "a task cannot be called 'a/b'"),
        ({" ": TOPICS}, {}, InputError, "a task cannot be called ' '"),
        ({"topic": TOPICS, "mood": [None] * 90}, {}, InputError, r"labels\['mood'\]: there are no labels"),
        ({"topic": [None, 1.5, *TOPICS[2:]]}, {}, InputError, r"labels\['topic'\]\[1\]: Unknown label type: 1.5"),
        ({"a": [None, float("inf"), *[1.0] * 88]}, {}, InputError, r"labels\['a'\]\[1\]: Unknown label type: inf"),
        ({"topic": [None, 3, *TOPICS[2:]]}, {}, InputTypeError, r"numbers \(position 1\) and strings \(position 2\)"),
        ({"a": [{"x": 2}, *[["x"]] * 89]}, {}, InputError, r"labels\['a'\]\[0\]: a dictionary of labels must hold 0"),
        ({"topic": ["体育", *[None] * 89], "mood": MOOD}, {}, InputError, r"labels\['topic'\]: all labels are of one"),
        ({"topic": ["体育", "财经", *[None] * 88]}, {}, InputError, "task topic: no text is left for dev"),
        (pd.DataFrame([TOPICS, MOOD], index=["a", "a"]).T, {}, InputError, "two tasks have one name"),
        (FULL, {"teacher": len}, InputError, "teacher: with several tasks, a teacher needs the name of its task"),
        (FULL, {"teacher": {"color": len}}, InputError, r"name of its task: topic, mood -> teacher={'topic': …}"),
        (FULL, {"teacher": {"mood": len}}, InputError, "teacher_model is None, and the task topic has no teacher"),
    ],
)
def test_labels_and_teachers_that_are_refused(
    labels: Any, further: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        fit_quietly(tiny(), TEXTS, labels, **further)


def test_settings_of_the_student_are_checked_before_the_teachers_are_trained(tiny_bert: Path, tmp_path: Path) -> None:
    settings = {**TINY, "task_weights": "1", "teacher_epochs": 1}
    with pytest.raises(UserError, match="2 positive numbers are needed"):
        fit_quietly(tiny(teacher_model=tiny_bert, settings=settings, run_folder=tmp_path), TEXTS, FULL)
    assert not list(tmp_path.rglob("*.safetensors"))
