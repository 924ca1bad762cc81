"""The floor learns toy titles, chooses on dev alone, and needs nothing but raw texts to predict."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from distill.errors import UserError
from distill.evaluation.baselines import linear_svm
from distill.evaluation.baselines.linear_svm import CS, LinearBaseline, words_and_pairs
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
    floor = fitted()
    predicted = floor.predict(TEXTS[36:])
    assert predicted.tolist() == LABELS[36:] and predicted.dtype == np.int64
    assert floor.dev_accuracy == 1.0 and floor.c == CS[0] and floor.seconds > 0
    known = len(floor._words.vocabulary_) + len(floor._characters.vocabulary_)
    assert floor.parameters == 3 * (known + 1)


def test_features_are_words_pairs_and_characters() -> None:
    assert words_and_pairs(["股票", "今天", "涨"]) == ["股票", "今天", "涨", "股票 今天", "今天 涨"]
    assert words_and_pairs([]) == []
    floor = fitted()
    assert "冠军 今天" in floor._words.vocabulary_ and {"冠", "冠军今天"} <= set(floor._characters.vocabulary_)
    assert floor.predict(["", "ＡＢＣ"]).shape == (2,)


def test_c_is_chosen_on_dev_and_the_chosen_model_is_the_one_that_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    right = {0.05: 3, 0.1: 5, 0.2: 9, 0.5: 9, 1.0: 4}  # of the nine dev texts; 0.2 is the first best

    class Scripted(LinearSVC):
        def predict(self, features: object) -> np.ndarray:
            dev = np.array(LABELS[27:36])
            return np.where(np.arange(9) < right[self.C], dev, dev + 1)

    monkeypatch.setattr(linear_svm, "LinearSVC", Scripted)
    floor = fitted()
    assert (floor.c, floor.dev_accuracy) == (0.2, 1.0) and floor._svm.C == 0.2


def test_two_floors_are_one() -> None:
    one, other = fitted(), fitted()
    assert np.array_equal(one._svm.coef_, other._svm.coef_)


def test_what_comes_often_counts_by_its_logarithm() -> None:
    for counter, text, other in (
        (fitted()._words, ["冠军"] * 3 + ["股票"], "股票"),
        (fitted()._characters, "冠冠冠股", "股"),
    ):
        often = "冠军" if other == "股票" else "冠"
        row, column = counter.transform([text]).toarray()[0], counter.vocabulary_
        ratio = row[column[often]] / row[column[other]] * counter.idf_[column[other]] / counter.idf_[column[often]]
        assert ratio == pytest.approx(1 + np.log(3))


def test_a_class_may_be_missing_but_not_all_but_one() -> None:
    without = [index for index in range(27) if LABELS[index] != 1]
    floor = LinearBaseline(SEGMENTER).fit(
        [TEXTS[index] for index in without],
        [WORDS[index] for index in without],
        [LABELS[index] for index in without],
        dev_texts=TEXTS[27:36],
        dev_segmented=WORDS[27:36],
        dev_labels=LABELS[27:36],
    )
    assert set(floor.predict(TEXTS).tolist()) == {0, 2}
    with pytest.raises(UserError, match="two classes"):
        fitted(labels=[1] * 27)


def test_scores_are_distances_of_every_class(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = fitted()
    scores = floor.scores(TEXTS, WORDS, 5)
    assert scores.shape == (45, 5) and scores.dtype == np.float32
    assert scores.argmax(1).tolist() == floor.predict(TEXTS).tolist()
    assert np.abs(scores.mean(1)).max() < 1e-6 and np.array_equal(scores[:, 3], scores[:, 4])
    assert (scores[:, 3] == scores.min(1)).all()  # of a class that it has not seen
    monkeypatch.setattr(linear_svm, "CHUNK", 7)
    assert np.allclose(floor.scores(TEXTS, WORDS, 5), scores) and floor.scores([], [], 5).shape == (0, 5)


def test_scores_of_two_classes_are_two_columns() -> None:
    floor = fitted([label % 2 for label in LABELS[:27]])
    scores = floor.scores(TEXTS, WORDS, 2)
    assert scores.argmax(1).tolist() == floor.predict(TEXTS).tolist() and np.allclose(scores[:, 0], -scores[:, 1])


def test_held_out_scores_do_not_know_a_texts_own_label() -> None:
    texts = [chr(0x4E00 + place) * 3 for place in range(40)]  # no text shares a character with another
    words, labels = [[text] for text in texts], [place % 2 for place in range(40)]
    dev = {"dev_texts": texts[:4], "dev_segmented": words[:4], "dev_labels": labels[:4]}
    floor = LinearBaseline(SEGMENTER).fit(texts, words, labels, **dev)
    assert (floor.scores(texts, words, 2).argmax(1) == labels).all()
    held_out = floor.held_out_scores(texts, words, labels, 2)
    assert np.abs(held_out).max() < 0.05 < np.abs(floor.scores(texts, words, 2)).min()


def test_held_out_scores_are_good_where_texts_are_alike() -> None:
    floor = fitted()
    floor.c = 1.0  # the least C, which is chosen as dev is easy, is too weak for the few texts of a fold
    scores = floor.held_out_scores(TEXTS[:27], WORDS[:27], LABELS[:27], 3)
    assert scores.argmax(1).tolist() == LABELS[:27]
    assert floor.held_out_scores(TEXTS[:2], WORDS[:2], [0, 1], 3).tolist() == [[0, 0, 0]] * 2  # nothing to learn from
