"""The linear baseline learns toy titles, chooses C on dev, and predicts from raw texts."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from distill.config import TargetMetric
from distill.errors import UserError
from distill.evaluation import multi_label
from distill.evaluation.baselines import linear_svm
from distill.evaluation.baselines.linear_svm import CS, LinearBaseline, words_and_pairs
from distill.runtime.label_sets import exceeding, sigmoid
from distill.text.segmentation import Segmenter

SUBJECTS = (("球队", "教练", "冠军"), ("股票", "基金", "银行"), ("手机", "芯片", "软件"))
ENDINGS = ("今天公布新消息", "为什么这么火", "到底怎么样", "让人没想到", "又上了头条")
PAIRS = [(f"{word}{ending}", label) for ending in ENDINGS for label, words in enumerate(SUBJECTS) for word in words]
TEXTS, LABELS = [text for text, _ in PAIRS], [label for _, label in PAIRS]
SEGMENTER = Segmenter()
WORDS = [SEGMENTER.segment(text) for text in TEXTS]


def fitted(labels: list[int] = LABELS[:27]) -> LinearBaseline:
    dev = {"dev_texts": TEXTS[27:36], "dev_segmented": WORDS[27:36], "dev_labels": LABELS[27:36]}
    return LinearBaseline(SEGMENTER).fit(TEXTS[:27], WORDS[:27], labels, **dev)


def test_it_learns_and_predicts_from_raw_texts() -> None:
    baseline = fitted()
    predicted = baseline.predict(TEXTS[36:])
    assert predicted.tolist() == LABELS[36:] and predicted.dtype == np.int64
    assert baseline.dev_accuracy == 1.0 and baseline.c == CS[0] and baseline.seconds > 0
    features = len(baseline._words.vocabulary_) + len(baseline._characters.vocabulary_)
    assert baseline.parameters == 3 * (features + 1)


def test_features_are_words_pairs_and_characters() -> None:
    assert words_and_pairs(["股票", "今天", "涨"]) == ["股票", "今天", "涨", "股票 今天", "今天 涨"]
    assert words_and_pairs([]) == []
    baseline = fitted()
    assert "冠军 今天" in baseline._words.vocabulary_ and {"冠", "冠军今天"} <= set(baseline._characters.vocabulary_)
    assert baseline.predict(["", "ＡＢＣ"]).shape == (2,)


def test_c_is_chosen_on_dev_and_the_chosen_model_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    correct = {0.05: 3, 0.1: 5, 0.2: 9, 0.5: 9, 1.0: 4}  # of the nine dev texts; 0.2 is the first best

    class Scripted(LinearSVC):
        def predict(self, features: object) -> np.ndarray:
            dev = np.array(LABELS[27:36])
            return np.where(np.arange(9) < correct[self.C], dev, dev + 1)

    monkeypatch.setattr(linear_svm, "LinearSVC", Scripted)
    baseline = fitted()
    assert (baseline.c, baseline.dev_accuracy) == (0.2, 1.0) and baseline._svm.C == 0.2


def test_training_is_reproducible() -> None:
    one, other = fitted(), fitted()
    assert np.array_equal(one._svm.coef_, other._svm.coef_)


def test_term_frequencies_count_by_their_logarithm() -> None:
    for counter, text, other in (
        (fitted()._words, ["冠军"] * 3 + ["股票"], "股票"),
        (fitted()._characters, "冠冠冠股", "股"),
    ):
        frequent = "冠军" if other == "股票" else "冠"
        row, column = counter.transform([text]).toarray()[0], counter.vocabulary_
        ratio = (
            row[column[frequent]] / row[column[other]] * counter.idf_[column[other]] / counter.idf_[column[frequent]]
        )
        assert ratio == pytest.approx(1 + np.log(3))


def test_a_class_may_be_missing_but_two_are_needed() -> None:
    without = [index for index in range(27) if LABELS[index] != 1]
    baseline = LinearBaseline(SEGMENTER).fit(
        [TEXTS[index] for index in without],
        [WORDS[index] for index in without],
        [LABELS[index] for index in without],
        dev_texts=TEXTS[27:36],
        dev_segmented=WORDS[27:36],
        dev_labels=LABELS[27:36],
    )
    assert set(baseline.predict(TEXTS).tolist()) == {0, 2}
    with pytest.raises(UserError, match="the linear baseline needs training texts of at least two classes"):
        fitted(labels=[1] * 27)


def test_scores_are_distances_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = fitted()
    scores = baseline.scores(TEXTS, WORDS, 5)
    assert scores.shape == (45, 5) and scores.dtype == np.float32
    assert scores.argmax(1).tolist() == baseline.predict(TEXTS).tolist()
    assert np.abs(scores.mean(1)).max() < 1e-6 and np.array_equal(scores[:, 3], scores[:, 4])
    assert (scores[:, 3] == scores.min(1)).all()  # a class without training texts
    monkeypatch.setattr(linear_svm, "CHUNK", 7)
    assert np.allclose(baseline.scores(TEXTS, WORDS, 5), scores) and baseline.scores([], [], 5).shape == (0, 5)


def test_scores_of_two_classes_are_two_columns() -> None:
    baseline = fitted([label % 2 for label in LABELS[:27]])
    scores = baseline.scores(TEXTS, WORDS, 2)
    assert scores.argmax(1).tolist() == baseline.predict(TEXTS).tolist() and np.allclose(scores[:, 0], -scores[:, 1])


def test_held_out_scores_do_not_depend_on_the_label_of_the_text() -> None:
    texts = [chr(0x4E00 + number) * 3 for number in range(40)]  # no text shares a character with another
    words, labels = [[text] for text in texts], [number % 2 for number in range(40)]
    dev = {"dev_texts": texts[:4], "dev_segmented": words[:4], "dev_labels": labels[:4]}
    baseline = LinearBaseline(SEGMENTER).fit(texts, words, labels, **dev)
    assert (baseline.scores(texts, words, 2).argmax(1) == labels).all()
    held_out = baseline.held_out_scores(texts, words, labels, 2)
    assert np.abs(held_out).max() < 0.05 < np.abs(baseline.scores(texts, words, 2)).min()


def test_held_out_scores_are_good_where_texts_are_alike() -> None:
    baseline = fitted()
    baseline.c = 1.0  # dev is easy, so the smallest C was chosen, which is too weak for the few texts of a fold
    scores = baseline.held_out_scores(TEXTS[:27], WORDS[:27], LABELS[:27], 3)
    assert scores.argmax(1).tolist() == LABELS[:27]
    assert (
        baseline.held_out_scores(TEXTS[:2], WORDS[:2], [0, 1], 3).tolist() == [[0, 0, 0]] * 2
    )  # every fold has a single class


# Label sets: a text has the subjects of its words and, if it asks, the class of questions; no text has the last class.
ASKS = [text.endswith(("这么火", "怎么样")) for text in TEXTS]
SETS = np.array([[*np.eye(3)[label], asks, 0] for label, asks in zip(LABELS, ASKS, strict=True)], np.int64)


def fitted_to_sets(sets: np.ndarray = SETS) -> LinearBaseline:
    dev = {"dev_texts": TEXTS[:18], "dev_segmented": WORDS[:18], "dev_labels": sets[:18]}
    return LinearBaseline(SEGMENTER, "micro-F1").fit(TEXTS, WORDS, sets, **dev)


def test_it_learns_label_sets() -> None:
    baseline = fitted_to_sets()
    predicted = baseline.predict(TEXTS)
    assert predicted.dtype == np.bool_ and predicted.tolist() == SETS.astype(bool).tolist()
    assert baseline.dev_accuracy == 1.0 and baseline.dev_correct.shape == (18,) and baseline.dev_correct.all()
    scores = baseline.scores(TEXTS, WORDS, 5)
    assert scores.dtype == np.float32 and ((scores > 0) == predicted).all() and (scores[:, 4] == -1).all()
    assert baseline.scores([], [], 5).shape == (0, 5) and baseline.predict(["无关"]).shape == (1, 5)
    features = len(baseline._words.vocabulary_) + len(baseline._characters.vocabulary_)
    assert baseline.parameters == 5 * (features + 1)


def test_every_class_is_a_linear_svc_of_its_own() -> None:
    baseline = fitted_to_sets()
    features = baseline._features(TEXTS, WORDS)
    alone = LinearSVC(C=baseline.c, random_state=0).fit(features, SETS[:, 3]).decision_function(features)
    assert np.allclose(baseline.scores(TEXTS, WORDS, 5)[:, 3], alone, atol=1e-6)


def test_label_sets_are_measured_by_micro_f1(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = {0.05: 9, 0.1: 15, 0.2: 24, 0.5: 24, 1.0: 12}  # of the 27 gold labels of the 18 dev texts

    class Scripted(linear_svm._OneVsRest):
        def __init__(self, c: float, features: object, gold: np.ndarray) -> None:
            self.c = c

        def decision_function(self, features: object) -> np.ndarray:
            gold = SETS[:18].astype(bool)
            return np.where(gold & (gold.cumsum().reshape(gold.shape) <= hits[self.c]), 1.0, -1.0)

    monkeypatch.setattr(linear_svm, "_OneVsRest", Scripted)
    baseline = fitted_to_sets()
    assert baseline.c == 0.2 and baseline.dev_accuracy == pytest.approx(2 * 24 / (24 + 27))
    assert baseline.dev_correct.tolist() == [True] * 16 + [False] * 2


@pytest.mark.parametrize("metric", get_args(TargetMetric))
def test_its_thresholds_are_chosen_on_dev(metric: TargetMetric) -> None:
    """Labels that most train texts lack are ranked well, but their distances from the hyperplanes are below 0."""
    rng = np.random.default_rng(0)
    sets = (rng.random((400, 4)) < [0.4, 0.3, 0.2, 0.1]).astype(np.int64)
    words = [
        [f"词{index}" for index in np.flatnonzero(row)] + [f"他{other}" for other in rng.integers(0, 60, 6)]
        for row in sets ^ (rng.random(sets.shape) < 0.15)
    ]
    texts = ["".join(chr(0x4E00 + ord(word[0]) % 7) for word in one) for one in words]
    dev = {"dev_texts": texts[150:], "dev_segmented": words[150:], "dev_labels": sets[150:]}
    baseline = LinearBaseline(SEGMENTER, "micro-F1", metric).fit(texts[:150], words[:150], sets[:150], **dev)
    distances, gold = baseline.scores(texts[150:], words[150:], 4), sets[150:] > 0
    thresholds = multi_label.choose_thresholds(sigmoid(distances), gold, metric)
    assert len(set(thresholds)) > 1
    predicted = exceeding(sigmoid(distances), thresholds)
    reached, at_zero = (getattr(multi_label.scores(gold, sets), metric) for sets in (predicted, distances > 0))
    assert reached > at_zero + 0.01
    assert baseline.dev_correct.tolist() == (predicted == gold).all(axis=1).tolist()
    assert baseline.dev_accuracy == multi_label.micro_f1(gold, predicted)


def test_classes_that_all_texts_have_or_none() -> None:
    sets = SETS.copy()
    sets[:, 0] = 1
    predicted = fitted_to_sets(sets).predict(TEXTS)
    assert predicted[:, 0].all() and not predicted[:, 4].any() and predicted[:, 1:4].any(0).all()
    with pytest.raises(UserError, match="the linear baseline needs training texts of different label sets"):
        fitted_to_sets(np.ones_like(SETS))


def test_held_out_scores_of_label_sets() -> None:
    baseline = fitted_to_sets()
    baseline.c = 1.0
    scores = baseline.held_out_scores(TEXTS, WORDS, SETS, 5)
    assert scores.dtype == np.float32 and scores[:, :3].argmax(1).tolist() == LABELS and (scores[:, 4] == -1).all()
    texts = [chr(0x4E00 + number) * 3 for number in range(40)]  # no text shares a character with another
    words, sets = [[text] for text in texts], np.array([[number % 2, number % 4 == 0] for number in range(40)])
    dev = {"dev_texts": texts[:4], "dev_segmented": words[:4], "dev_labels": sets[:4]}
    baseline = LinearBaseline(SEGMENTER).fit(texts, words, sets, **dev)
    held_out = baseline.held_out_scores(texts, words, sets, 2)
    assert np.ptp(held_out, axis=0).max() < 0.2 < np.ptp(baseline.scores(texts, words, 2), axis=0).min()
