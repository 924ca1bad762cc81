"""The estimator: scikit-learn's protocol on tiny data, storage, and messages about bad input.

Segmentation uses a dictionary of a few words: the bundle of a student holds the dictionary, and jieba's has 350,000.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import pickle
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from cleanlab.classification import CleanLearning
from conftest import SUBJECTS, titles
from scipy.sparse import csr_matrix
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

import distill
from distill.cli import main
from distill.errors import DistillWarning, InputError, InputTypeError, UserError
from distill.estimator import DistilledTextClassifier
from distill.progress import log
from distill.runtime import load

pytestmark = pytest.mark.usefixtures("small_dictionary")
ROOT = Path(__file__).parent.parent
TEXTS, LABELS = (list(column) for column in zip(*titles(0, 60), strict=True))
TINY = {"vectors": "none", "ngrams": 512, "student_hidden": 8, "student_batch": 16, "student_epochs": 15}
TINY |= {"student_lr": 2e-2, "vector_lr": 5e-2}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, in which every test must leave nothing."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not [path.name for path in folder.iterdir() if path.name.startswith("distill")]


def tiny(**parameters: Any) -> DistilledTextClassifier:
    """A classifier that learns from labels alone in a tenth of a second."""
    given = {"teacher_model": None, "student": "average", "settings": TINY, "threads": 1, "verbose": 0, **parameters}
    return DistilledTextClassifier(**given)


@pytest.fixture(scope="module")
def fitted(small_dictionary: None) -> DistilledTextClassifier:
    """A fitted classifier; tests do not change it."""
    return fit_quietly(tiny())


def fit_quietly(classifier: Any, texts: Any = TEXTS, labels: Any = LABELS, **further: Any) -> Any:
    """Fit without the warnings that such few texts give."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DistillWarning)
        return classifier.fit(texts, labels, **further)


def test_fit_and_predict(fitted: DistilledTextClassifier) -> None:
    assert distill.DistilledTextClassifier is DistilledTextClassifier and is_classifier(fitted)
    assert fitted.classes_.tolist() == sorted(SUBJECTS)
    predicted, probabilities = fitted.predict(TEXTS), fitted.predict_proba(TEXTS)
    assert predicted.shape == (60,) and predicted.dtype == fitted.classes_.dtype
    assert probabilities.shape == (60, 3) and np.allclose(probabilities.sum(1), 1)
    assert (fitted.classes_[probabilities.argmax(1)] == predicted).all()
    assert fitted.score(TEXTS, LABELS) == (predicted == LABELS).mean() > 0.9 < fitted.dev_score_ <= 1
    assert fitted.predict([]).shape == (0,) and fitted.predict_proba([]).shape == (0, 3)


def test_the_model_is_that_of_the_command_line(tmp_path: Path) -> None:
    """The same texts, settings and seed give the same bundle, to the bit; the probabilities are calibrated."""
    for name, start, stop in (("train", 0, 60), ("test", 90, 120)):
        rows = [{"text": text, "label": label} for text, label in titles(start, stop)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")
    flags = [word for name, value in TINY.items() for word in (f"--{name}", str(value))]
    common = ["--data", str(tmp_path), "--run", str(tmp_path / "run"), "--threads", "1", "--seed", "7"]
    train = ["--mode", "train_student", "--a", "1", "--T", "0", "--student", "average", *flags]
    assert main([*common, *train]) == 0 and main([*common, "--mode", "export"]) == 0
    exported = fit_quietly(tiny(random_state=7)).export(tmp_path / "exported")
    for name in ("bundle.json", "bundle.safetensors"):
        assert (exported / name).read_bytes() == (tmp_path / "run/bundle" / name).read_bytes(), name
    assert "None of these texts is in test" not in (exported / "README.md").read_text(encoding="utf-8")
    assert load(exported).temperature != 1


@pytest.mark.parametrize(
    ("texts", "labels", "dtype"),
    [
        (pd.Series(TEXTS, index=range(60, 0, -1)), pd.Series(LABELS).map({"体育": 30, "财经": 4, "科技": 5}), "int64"),
        (np.array(TEXTS)[:, None], np.array(LABELS) == "体育", "bool"),
        (np.array(TEXTS, object), np.array(LABELS, object), "object"),
    ],
)
def test_labels_keep_their_type(texts: Any, labels: Any, dtype: str, tmp_path: Path) -> None:
    classifier = fit_quietly(tiny(), texts, labels)
    predicted = classifier.predict(texts)
    assert classifier.classes_.dtype == predicted.dtype == np.dtype(dtype)
    assert (predicted == np.asarray(labels)).mean() > 0.9
    classifier.save(tmp_path / "saved")
    loaded = DistilledTextClassifier.load(tmp_path / "saved")
    assert loaded.classes_.dtype == dtype and loaded.predict(texts).tolist() == predicted.tolist()
    assert [*map(type, loaded.classes_.tolist())] == [*map(type, classifier.classes_.tolist())]


def test_two_fits_give_the_same_model_and_leave_the_process_as_it_was(
    fitted: DistilledTextClassifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "distill")
    torch.manual_seed(3)
    state, threads, level, handlers = torch.get_rng_state(), torch.get_num_threads(), log.level, log.handlers
    again = fit_quietly(tiny(threads=3))
    assert (again.predict_proba(TEXTS) == fitted.predict_proba(TEXTS)).all()
    assert (torch.get_rng_state() == state).all() and torch.get_num_threads() == threads != 3
    assert (log.level, log.handlers) == (level, handlers)
    other = fit_quietly(tiny(random_state=np.random.RandomState(1)))
    assert (other.predict_proba(TEXTS) != fitted.predict_proba(TEXTS)).any()


def test_repeats_conflicts_and_empty_texts_are_warned_of() -> None:
    texts, labels = [*TEXTS, f"{TEXTS[0]}\u3000", TEXTS[1], " "], [*LABELS, LABELS[0], "别的", "体育"]
    with pytest.warns(DistillWarning) as warned:
        tiny().fit(texts, [*labels[:-1], "体育"])
    messages = {str(warning.message) for warning in warned}
    assert "repeated texts: 2; only the first of each is used" in messages
    assert any(message.startswith("texts with two labels: 1; they are left out") for message in messages)
    assert "1 of the texts are empty and are left out; the first: texts[62]" in messages
    assert {Path(warning.filename).name for warning in warned} == {Path(__file__).name}


# Teachers


def test_an_own_teacher_and_unlabelled_texts(tiny_bert: Path, tmp_path: Path) -> None:
    settings = {**TINY, "teacher_epochs": 1, "general_words": 5, "general_sentences": 0, "dictionary": 5}
    classifier = tiny(teacher_model=tiny_bert, settings=settings, run_folder=tmp_path / "run")
    fit_quietly(classifier, unlabeled=np.array(["球队怎么看", TEXTS[0], "", "球队怎么看"]))
    card = json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))["data"]
    assert card["unlabelled"] == card["unlabelled_repeats"] == 1
    assert card["unlabelled_in_train"] + card["unlabelled_in_dev"] == 1
    assert card["test"] == 0 and card["train"] + card["dev"] == 60
    teacher = tmp_path / "run/teacher/made_from.json"
    written = teacher.stat().st_mtime_ns
    fit_quietly(clone(classifier).set_params(settings={**settings, "student_epochs": 3}), unlabeled=["球队怎么看"])
    assert teacher.stat().st_mtime_ns == written, "the folder of a run keeps its teacher"
    saved = tmp_path / "run/teacher"
    fit_quietly(tiny(teacher_model="no-such/model", settings=settings), teacher=saved)
    alone = fit_quietly(tiny(student="textcnn", run_folder=tmp_path / "run")).export(tmp_path / "exported")
    network = json.loads((alone / "bundle.json").read_text(encoding="utf-8"))["network"]
    assert network["architecture"] == "textcnn", "not the distilled student, which is in the same folder"


def test_a_function_and_a_file_as_teachers(tmp_path: Path) -> None:
    """With the weight 0 of the labels, which are wrong here, a student learns what the teacher says."""
    truth, wrong = dict(zip(TEXTS, LABELS, strict=True)), [*LABELS[1:], LABELS[0]]
    asked: list[str] = []

    def teacher(texts: list[str]) -> list[str]:
        asked.extend(texts)
        return [truth.get(text, "体育") for text in texts]

    teacher.confidence = 0.95  # type: ignore[attr-defined]
    answers = tmp_path / "answers.csv"
    pd.DataFrame({"text": TEXTS, "label": LABELS, "confidence": 0.95}).to_csv(answers, index=False)
    classifier = tiny(settings={**TINY, "a": 0, "linear_weight": 0})
    for given in (teacher, answers, [teacher, str(answers)]):
        fit_quietly(classifier, labels=wrong, teacher=given, unlabeled=["一场比赛"])
        assert classifier.score(TEXTS, LABELS) > 0.8 and classifier.score(TEXTS, wrong) < 0.2
    assert {*TEXTS, "一场比赛"} <= set(asked)


# scikit-learn and cleanlab


def test_parameters_and_clone(fitted: DistilledTextClassifier) -> None:
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params() and not hasattr(copied, "classes_")
    assert clone(DistilledTextClassifier()).get_params() == DistilledTextClassifier().get_params()
    assert copied.set_params(student="textcnn").student == "textcnn"
    with pytest.raises(NotFittedError, match="not fitted yet"):
        copied.predict(TEXTS)
    for method in (copied.export, copied.save, copied.push_to_hub):
        with pytest.raises(NotFittedError):
            method("folder")


def test_pipeline_and_cross_validation() -> None:
    pipeline = Pipeline([("clean", FunctionTransformer(lambda texts: [text[:4] for text in texts])), ("model", tiny())])
    fit_quietly(pipeline, model__unlabeled=["球队怎么看"])
    assert pipeline.score(TEXTS, LABELS) > 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DistillWarning)
        predicted = cross_val_predict(tiny(), TEXTS, LABELS, cv=2)
        probabilities = cross_val_predict(tiny(), pd.Series(TEXTS), np.array(LABELS), cv=2, method="predict_proba")
    assert (predicted == LABELS).mean() > 0.7 < (np.unique(LABELS)[probabilities.argmax(1)] == LABELS).mean()


def test_grid_search_in_threads() -> None:
    grid = {"settings": [{**TINY, "student_epochs": 1, "student_lr": 1e-6}, TINY]}
    search = GridSearchCV(tiny(), grid, cv=2, n_jobs=2)
    with joblib.parallel_backend("threading"):
        fit_quietly(search, np.array(TEXTS))
    assert search.best_params_ == {"settings": TINY} and search.best_score_ > 0.7
    assert search.best_estimator_.score(TEXTS, LABELS) > 0.9


def test_fits_in_threads_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds, messages and warnings are those of the process."""
    running: list[int] = []

    def train(*_: object) -> None:
        running.append(1)
        time.sleep(0.05)
        assert len(running) == 1
        running.clear()
        raise UserError("the end")

    monkeypatch.setattr("distill.commands.fit.train_students", train)

    def fit(_: int) -> str:
        with pytest.raises(UserError) as error:
            tiny().fit(TEXTS, LABELS)
        return str(error.value)

    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(fit, range(3))] == ["the end"] * 3


@pytest.mark.slow
def test_grid_search_in_processes() -> None:
    search = GridSearchCV(tiny(), {"student": ["average", "bilstm"]}, cv=2, n_jobs=2, return_train_score=True)
    fit_quietly(search)
    assert search.best_score_ > 0.8


def test_cleanlab_finds_wrong_labels() -> None:
    numbers = np.unique(LABELS, return_inverse=True)[1]
    given = numbers.copy()
    given[[3, 17]] = (given[[3, 17]] + 1) % 3
    longer = tiny(settings={**TINY, "student_epochs": 25})
    learning = CleanLearning(longer, seed=0, cv_n_folds=3, find_label_issues_kwargs={"n_jobs": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DistillWarning)
        found = np.flatnonzero(learning.find_label_issues(np.array(TEXTS), given)["is_label_issue"])
        learning.fit(np.array(TEXTS), given, label_issues=learning.get_label_issues())
    assert {3, 17} <= set(found) and len(found) < 15
    assert (learning.predict(TEXTS) == numbers).mean() > 0.8


# Checks of scikit-learn


class OfNumbers(DistilledTextClassifier):
    """The classifier for scikit-learn's checks, whose data are numbers: a row becomes a text of its rounded numbers."""

    def fit(self, rows: Any, y: Any, **further: Any) -> Any:
        return super().fit(texts_of(validate_data(self, rows)), y, **further)

    def predict(self, rows: Any) -> Any:
        check_is_fitted(self)
        return super().predict(texts_of(validate_data(self, rows, reset=False)))

    def predict_proba(self, rows: Any) -> Any:
        check_is_fitted(self)
        return super().predict_proba(texts_of(validate_data(self, rows, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, False, True
        return tags


def texts_of(numbers: Any) -> list[str]:
    """The rounded numbers as words, and the numbers, so that different rows are different texts."""
    rounded = [" ".join(f"{chr(ord('一') + column)}{value:.0f}" for column, value in enumerate(row)) for row in numbers]
    return [f"{text} {row.tolist()}" for text, row in zip(rounded, numbers, strict=True)]


EXPECTED_FAILURES = {
    "check_supervised_y_2d": "a column of labels is taken without a warning, as a column of texts is",
}
QUICK_CHECKS = {
    *("check_estimator_cloneable", "check_estimator_repr", "check_no_attributes_set_in_init"),
    *("check_do_not_raise_errors_in_init_or_set_params", "check_estimators_unfitted", "check_requires_y_none"),
    *("check_dont_overwrite_parameters", "check_dict_unchanged", "check_fit_idempotent", "check_estimators_pickle"),
    *("check_methods_subset_invariance", "check_methods_sample_order_invariance", "check_estimators_fit_returns_self"),
    *("check_estimator_sparse_array", "check_estimators_nan_inf", "check_classifiers_one_label", "check_mixin_order"),
}


def of_numbers(epochs: int) -> OfNumbers:
    """The classifier for scikit-learn's checks."""
    settings = {**TINY, "student_epochs": epochs}
    return OfNumbers(teacher_model=None, student="average", settings=settings, threads=1, verbose=0)


@pytest.mark.filterwarnings("ignore::distill.errors.DistillWarning")
def test_quick_checks_of_scikit_learn() -> None:
    done = set()
    for estimator, check in estimator_checks_generator(of_numbers(1)):
        if (name := check.func.__name__) in QUICK_CHECKS:
            check(estimator)
            done.add(name)
    assert done == QUICK_CHECKS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::distill.errors.DistillWarning", "ignore:Can't test estimator")
def test_all_checks_of_scikit_learn() -> None:
    """They do not apply to texts, so they are made with numbers that become texts."""
    assert not [*estimator_checks_generator(tiny())][1:], "scikit-learn has checks of texts now: run them"
    results = check_estimator(of_numbers(10), expected_failed_checks=EXPECTED_FAILURES, on_skip=None)
    statuses = {result["check_name"]: result["status"] for result in results}
    assert len(statuses) > 40
    assert {name for name, status in statuses.items() if status == "xfail"} == EXPECTED_FAILURES.keys()
    assert [name for name, status in statuses.items() if status == "skipped"] == ["check_array_api_input"]


# Storage


def test_copies_and_pickles_need_no_files(fitted: DistilledTextClassifier, tmp_path: Path) -> None:
    expected = fitted.predict_proba(TEXTS)
    joblib.dump(fitted, tmp_path / "model.joblib")
    pickled = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    for copied in (pickled, copy.deepcopy(fitted), joblib.load(tmp_path / "model.joblib")):
        assert (copied.predict_proba(TEXTS) == expected).all() and copied.get_params() == fitted.get_params()
        assert (copied.set_params(threads=2).predict_proba(TEXTS) == expected).all()


def test_a_saved_classifier_comes_back_without_pytorch(fitted: DistilledTextClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [
        *("README.md", "bundle.json", "bundle.safetensors", "estimator.json")
    ]
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'transformers', 'jieba', 'pandas', 'yaml'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from distill import DistilledTextClassifier\n"
        "loaded = DistilledTextClassifier.load(sys.argv[1])\n"
        "print(*loaded.predict(sys.argv[2:]), loaded.dev_score_, loaded.get_params())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "saved"), *TEXTS[:3]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[0] == " ".join(
        map(str, [*fitted.predict(TEXTS[:3]), fitted.dev_score_, fitted.get_params()])
    ), done.stderr


def test_an_export_is_a_bundle_which_load_reads_too(fitted: DistilledTextClassifier, tmp_path: Path) -> None:
    folder = fitted.export(tmp_path / "bundle")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "bundle.json", "bundle.safetensors"]
    assert load(folder).predict(TEXTS) == fitted.predict(TEXTS).tolist()
    loaded = DistilledTextClassifier.load(folder)
    assert (loaded.predict_proba(TEXTS) == fitted.predict_proba(TEXTS)).all() and np.isnan(loaded.dev_score_)
    again = DistilledTextClassifier.load(loaded.save(tmp_path / "again"))
    assert np.isnan(again.dev_score_) and again.predict(TEXTS[:3]).tolist() == fitted.predict(TEXTS[:3]).tolist()
    assert fitted.save(folder) == folder, "a bundle may be replaced"


def test_no_other_folder_is_replaced(fitted: DistilledTextClassifier, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("一年的工作", encoding="utf-8")
    for method in (fitted.export, fitted.save):
        with pytest.raises(
            InputError, match=r"holds something else than a bundle: .*thesis\.txt.*-> name a new folder"
        ):
            method(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ["体育", "财经"]}, "its classes are not the labels of the bundle"),
        ({"classes": ["体育", "科技", "别的"]}, "its classes are not the labels of the bundle"),
        ({"classes": [["体育"], ["科技"], ["财经"]]}, "its classes are not the labels"),
        ({"dtype": "int64"}, "its classes are not the labels"),
        ({"dtype": "V8"}, "its classes are not the labels"),
        ({"dtype": "no type"}, "its classes are not the labels"),
        ({"dtype": None}, "its classes are not the labels"),
        ({"params": [1]}, "this file cannot be read: params is not an object"),
        ({"dev_score": "gut"}, "this file cannot be read: params is not an object, or dev_score not a number"),
        (b"{", "this file cannot be read"),
        (b"[]", "this file cannot be read: it is not a JSON object"),
        (b"\xff", "this file cannot be read"),
    ],
)
def test_a_damaged_file_of_classes(
    fitted: DistilledTextClassifier, tmp_path: Path, change: dict[str, Any] | bytes, message: str
) -> None:
    path = fitted.save(tmp_path / "saved") / "estimator.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_bytes(change if isinstance(change, bytes) else json.dumps({**card, **change}).encode())
    with pytest.raises(UserError) as error:
        DistilledTextClassifier.load(tmp_path / "saved")
    assert message in str(error.value) and str(path) in str(error.value)


def test_parameters_that_json_cannot_hold_are_left_out(fitted: DistilledTextClassifier, tmp_path: Path) -> None:
    changed = copy.deepcopy(fitted).set_params(
        random_state=np.random.RandomState(1), run_folder=tmp_path, teacher_model=tmp_path, threads=np.int64(2)
    )
    loaded = DistilledTextClassifier.load(changed.save(tmp_path / "saved"))
    assert (loaded.random_state, loaded.run_folder, loaded.teacher_model) == (42, None, str(tmp_path))
    assert (loaded.threads, loaded.settings) == (2, TINY)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "not a bundle: there is no bundle.json"),
        ("tests/nowhere", "not a bundle: there is no bundle.json"),
        ("tests", "not a bundle: there is no bundle.json"),
        ("user/name", "no such folder, and the Hub cannot be reached -> check the path; for the Hub: the network"),
    ],
)
def test_nothing_to_load(source: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as error:
        DistilledTextClassifier.load(source)
    assert message in str(error.value) and source in str(error.value)


def test_the_upload_has_the_labels_but_no_parameters(
    fitted: DistilledTextClassifier, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"not the name of a model on the Hub -> push_to_hub USER/NAME"):
        fitted.push_to_hub("name")

    def push(folder: Path, name: str) -> str:
        (tmp_path / name).mkdir(parents=True)
        for path in folder.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
        return "https://example.com/user/name"

    monkeypatch.setattr("distill.export.hub.check", lambda name, where: None)
    monkeypatch.setattr("distill.export.hub.push", push)
    assert fitted.push_to_hub("user/name") == "https://example.com/user/name"
    monkeypatch.setattr("distill.export.hub.download", lambda name, files: tmp_path / name)
    monkeypatch.chdir(tmp_path / "user")
    loaded = DistilledTextClassifier.load("user/name")
    assert loaded.classes_.tolist() == fitted.classes_.tolist() and loaded.settings is None


# Bad input


@pytest.mark.parametrize(
    ("texts", "labels", "kind", "message"),
    [
        ([], [], ValueError, "labels: there are no labels"),
        (TEXTS, LABELS[1:], ValueError, "fit: 60 texts and 59 labels: there must be one label per text"),
        (TEXTS, None, ValueError, "the target y is None"),
        (TEXTS, ["体育"] * 60, ValueError, "all labels are of one class (体育)"),
        (TEXTS, [*LABELS[1:], None], ValueError, "labels[59]: the label is missing"),
        ([*TEXTS[1:], 3], LABELS, TypeError, "texts[59]: 3 (int) is not a string"),
        (np.zeros((60, 2)), LABELS, ValueError, "texts: one column is needed"),
        ([" "] * 60, LABELS, ValueError, "fit: train has fewer than two classes (none)"),
        (["球队"] * 60, LABELS, ValueError, "fit: train has fewer than two classes (none) -> every class needs texts"),
        (["球队", "股票"], ["体育", "财经"], ValueError, "fit: no text is left for dev -> every class needs texts"),
    ],
)
def test_data_that_cannot_be_fitted(texts: Any, labels: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(UserError) as error:
        tiny().fit(texts, labels)
    assert isinstance(error.value, kind) and message in str(error.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"settings": {"student_epoch": 3}}, "unknown setting 'student_epoch', did you mean student_epochs?"),
        ({"settings": {"student_epochs": "3"}}, "student_epochs is '3', must be a whole number"),
        ({"settings": {"student_epochs": 0}}, "--student_epochs is 0, must be at least 1"),
        ({"settings": {"seed": 3, "run": "x"}}, "seed is given by random_state=…; run is given by run_folder=…"),
        ({"settings": {"port": 80}}, "port does not concern the training of a student"),
        ({"settings": [1]}, "settings: [1] is no dictionary"),
        ({"settings": {"objective": "soft"}}, "the objective needs a teacher, but teacher_model is None"),
        ({"student": "textgcn"}, "textgcn labels only the texts that it was trained with"),
        ({"student": "cnn"}, "--student is 'cnn', must be one of bilstm"),
        ({"student": 3}, "student is 3, must be a string"),
        ({"threads": -1}, "--threads is -1, must be at least 0"),
        ({"threads": 1.5}, "threads is 1.5, must be a whole number"),
        ({"random_state": -1}, "--seed is -1"),
        ({"random_state": "a"}, "cannot be used to seed"),
    ],
)
def test_parameters_that_are_refused(parameters: dict[str, Any], message: str) -> None:
    classifier = tiny(**parameters)  # no error before fit
    with pytest.raises((ValueError, TypeError)) as error:
        classifier.fit(TEXTS, LABELS)
    assert message in str(error.value)


def test_numbers_of_numpy_are_settings_too(tmp_path: Path) -> None:
    settings = {**TINY, "student_epochs": np.int64(3), "user_dict": tmp_path / "words.txt"}
    (tmp_path / "words.txt").write_text("球队\n", encoding="utf-8")
    fit_quietly(tiny(settings=settings, random_state=np.int64(3), threads=np.int64(1), run_folder=tmp_path / "run"))
    config = json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))["settings"]
    assert config["student"]["epochs"] == config["run"]["seed"] == 3 and config["data"]["user_dict"]


def test_the_metric_that_thresholds_are_chosen_for_is_a_setting(tmp_path: Path) -> None:
    settings = {**TINY, "student_epochs": 2, "target_metric": "macro_f1"}
    fit_quietly(tiny(settings=settings, run_folder=tmp_path / "run"), SET_TEXTS, LABEL_SETS)
    config = json.loads((tmp_path / "run/config.json").read_text(encoding="utf-8"))["settings"]
    assert config["data"]["target_metric"] == "macro_f1"


def test_teachers_that_are_refused() -> None:
    with pytest.raises(InputError, match="the objective uses no teacher, but one is given"):
        tiny(settings={**TINY, "a": 1, "T": 0}).fit(TEXTS, LABELS, teacher=len)
    with pytest.raises(UserError, match="no such file or folder"):
        tiny().fit(TEXTS, LABELS, teacher="./nowhere")


def test_predictions_of_something_else_than_texts(fitted: DistilledTextClassifier) -> None:
    for method in (fitted.predict, fitted.predict_proba):
        with pytest.raises(InputTypeError, match=r"texts\[1\]: None \(NoneType\) is not a string"):
            method(["球队", None])
        with pytest.raises(InputTypeError, match="a list is needed, not one string"):
            method("球队")


# Messages and temporary files


@pytest.mark.parametrize("verbose", [0, 1])
def test_messages(verbose: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(log, "propagate", False)  # pytest's own handler would take them
    monkeypatch.setattr(log, "handlers", [])
    with pytest.warns(DistillWarning, match="repeated texts: 1"):
        tiny(verbose=verbose).fit([*TEXTS, TEXTS[0]], [*LABELS, LABELS[0]])
    out, err = capsys.readouterr()
    assert ("data: 54 train and 6 dev texts" in out) == bool(verbose)
    assert err == "" and "repeated" not in out and (verbose or out == "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_an_interrupted_fit_leaves_nothing(
    error: type[BaseException], temporary: Path, monkeypatch: pytest.MonkeyPatch, fitted: DistilledTextClassifier
) -> None:
    interrupted: list[list[Path]] = []

    def train(*_: object) -> None:
        interrupted.append([*temporary.iterdir()])
        raise error("stop")

    monkeypatch.setattr("distill.commands.fit.train_students", train)
    classifier = copy.deepcopy(fitted)
    with pytest.raises(error, match="stop"):
        classifier.fit(TEXTS, LABELS)
    assert interrupted[0] and not [*temporary.iterdir()]
    assert (classifier.predict_proba(TEXTS) == fitted.predict_proba(TEXTS)).all(), "the last fit still counts"


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distill.commands.fit", None)
    with pytest.raises(ModuleNotFoundError):
        tiny().fit(TEXTS, LABELS)
    monkeypatch.delitem(sys.modules, "distill.commands.fit")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r'fit needs the package torch -> pip install "distill-zh\[train\]"'):
        tiny().fit(TEXTS, LABELS)


JOINED = [first + second for first, second in itertools.pairwise(TEXTS)]
SETS = [sorted({first, second}) for first, second in itertools.pairwise(LABELS)]
SET_TEXTS, LABEL_SETS = [*JOINED, *TEXTS, "今天天气"], [*SETS, *([label] for label in LABELS), []]


def test_lists_of_labels(tmp_path: Path) -> None:
    fitted = fit_quietly(tiny(), SET_TEXTS, LABEL_SETS)
    assert fitted.multilabel_ and fitted.classes_.tolist() == sorted(SUBJECTS)
    predicted, probabilities = fitted.predict(SET_TEXTS), fitted.predict_proba(SET_TEXTS)
    assert probabilities.shape == (len(SET_TEXTS), 3) and probabilities.sum(1).max() > 1.5
    right = np.mean([labels == gold for labels, gold in zip(predicted, LABEL_SETS, strict=True)])
    assert fitted.score(SET_TEXTS, LABEL_SETS) == right > 0.8 < fitted.dev_score_ <= 1
    assert fitted.predict([]) == []
    saved = DistilledTextClassifier.load(fitted.save(tmp_path / "saved"))
    assert saved.multilabel_ and saved.predict(SET_TEXTS) == predicted
    exported = fitted.export(tmp_path / "exported")
    assert DistilledTextClassifier.load(exported).predict(SET_TEXTS) == predicted == load(exported).predict(SET_TEXTS)


def test_an_indicator_matrix(tmp_path: Path) -> None:
    classes = sorted(SUBJECTS)
    matrix = np.array([[label in labels for label in classes] for labels in LABEL_SETS])
    fitted = fit_quietly(tiny(), SET_TEXTS, matrix.astype(int))
    assert fitted.classes_.tolist() == [0, 1, 2]
    predicted = fitted.predict(SET_TEXTS)
    assert predicted.shape == matrix.shape and predicted.dtype.kind == "i"
    assert fitted.score(SET_TEXTS, matrix) == (predicted == matrix).all(1).mean() > 0.8
    saved = DistilledTextClassifier.load(fitted.save(tmp_path / "saved"))
    assert (saved.predict(SET_TEXTS) == predicted).all()
    named = fit_quietly(tiny(), SET_TEXTS, pd.DataFrame(matrix, columns=classes))
    assert named.classes_.tolist() == classes and (named.predict(SET_TEXTS) == predicted).all()
    sparse = fit_quietly(tiny(), SET_TEXTS, csr_matrix(matrix.astype(int)))
    assert (sparse.predict(SET_TEXTS) == predicted).all()


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        ([[], *[["体育"]] * 2], InputError, "3 labels"),
        ([["体育", "财经"]] * 60, InputError, "all texts have the same labels"),
        ([[]] * 60, InputError, "no text has a label"),
        ([["体育", 3], *[["体育"]] * 59], InputTypeError, "labels of different types: numbers and strings"),
        ([["体育", " "], *[["体育"]] * 59], InputError, "the label is missing"),
        (np.full((60, 2), 0.5), InputError, "an indicator matrix must hold 0 and 1"),
        (np.ones((60, 2)), InputError, "all texts have the same labels"),
        ([["体育"], "财经", *[["体育"]] * 58], InputTypeError, "is no label"),
    ],
)
def test_label_sets_that_cannot_be_fitted(labels: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        fit_quietly(tiny(), TEXTS, labels)


@pytest.mark.parametrize("form", [lambda y: np.array(y)[:, None], lambda y: [(label,) for label in y]])
def test_a_column_of_labels_is_one_label_per_text(form: Any) -> None:
    fitted = fit_quietly(tiny(), TEXTS, form(LABELS))
    assert not fitted.multilabel_ and fitted.score(TEXTS, LABELS) > 0.9


def test_nested_lists_of_0_and_1_are_a_matrix() -> None:
    classes = sorted(SUBJECTS)
    matrix = [[int(label in labels) for label in classes] for labels in LABEL_SETS]
    fitted = fit_quietly(tiny(), SET_TEXTS, matrix)
    assert fitted.classes_.tolist() == [0, 1, 2] and fitted.predict(SET_TEXTS[:2]).shape == (2, 3)
    with pytest.raises(InputError, match="an indicator matrix, but this classifier was fitted with lists"):
        fit_quietly(tiny(), SET_TEXTS, LABEL_SETS).score(SET_TEXTS, np.array(matrix))


def test_classifiers_that_an_older_version_pickled(fitted: DistilledTextClassifier) -> None:
    old = copy.deepcopy(fitted)
    del old.multilabel_, old._form
    assert (old.predict(TEXTS) == fitted.predict(TEXTS)).all()
    pickled = pickle.dumps(fitted, protocol=0)
    moved = pickled.replace(b"distill.estimator.classifier\n", b"distill.estimator\n").replace(
        b"distill.estimator.saved\nBundleInMemory", b"distill.estimator\n_BundleInMemory"
    )
    assert len(moved) < len(pickled)
    assert (pickle.loads(moved).predict(TEXTS) == fitted.predict(TEXTS)).all()  # noqa: S301
