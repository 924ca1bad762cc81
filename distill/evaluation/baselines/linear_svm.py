"""The linear baseline: an SVM over TF-IDF features, without word vectors, network or teacher.

A student that does not beat it is not worth its cost.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from distill.config import TargetMetric
from distill.errors import UserError
from distill.evaluation.multi_label import DEFAULT_THRESHOLD, choose_thresholds, micro_f1
from distill.progress import log, with_progress_bar
from distill.runtime.label_sets import exceeding, sigmoid
from distill.text.segmentation import Segmenter

CS = (0.05, 0.1, 0.2, 0.5, 1.0)
CHARACTERS = (1, 4)  # lengths of the character n-grams
FOLDS = 5
CHUNK = 16_384  # texts whose features are in memory at a time

Labels = Sequence[int] | NDArray[Any]  # class numbers (texts,), or label sets as an indicator matrix (texts, classes)
Segmented = Sequence[Sequence[str]]


def words_and_pairs(words: Sequence[str]) -> list[str]:
    """The words of a text and its pairs of adjacent words."""
    return [*words, *(f"{first} {second}" for first, second in itertools.pairwise(words))]


class LinearBaseline:
    """Linear SVM over TF-IDF of words, pairs of words and 1 to 4 characters; its C is chosen on dev.

    After :meth:`fit`: ``c`` is the chosen C, ``dev_accuracy`` its accuracy on dev (a share), ``dev_correct`` (texts,)
    marks the dev texts that it gets right, and ``seconds`` is the time of :meth:`fit` for all values of C.

    If the labels are an indicator matrix (texts, classes), every class has an SVM of its own (one-vs-rest), with a
    threshold chosen on dev. Then ``dev_accuracy`` is micro-F1, and a dev text is correct if its whole label set is.

    Args:
        segmenter: for the texts to predict.
        measured: what ``dev_accuracy`` is called in messages.
        target_metric: what the thresholds are chosen for.
    """

    def __init__(
        self, segmenter: Segmenter, measured: str = "accuracy", target_metric: TargetMetric = "micro_f1"
    ) -> None:
        self._segmenter, self._measured, self._target_metric = segmenter, measured, target_metric
        # sublinear: a term frequency counts by its logarithm
        self._words = TfidfVectorizer(analyzer=words_and_pairs, sublinear_tf=True)
        self._characters = TfidfVectorizer(analyzer="char", ngram_range=CHARACTERS, sublinear_tf=True)
        self._svm: LinearSVC | _OneVsRest = LinearSVC()
        self.c = 0.0
        self.dev_accuracy = 0.0
        self.dev_correct: NDArray[np.bool_] = np.empty(0, np.bool_)
        self.seconds = 0.0

    def fit(
        self,
        texts: Sequence[str],
        segmented: Segmented,
        labels: Labels,
        *,
        dev_texts: Sequence[str],
        dev_segmented: Segmented,
        dev_labels: Labels,
    ) -> LinearBaseline:
        """Train on ``texts`` and their words; ties between values of C go to the first.

        Raises:
            UserError: all texts have the same label, or the same label set.
        """
        gold, dev_gold = np.asarray(labels), np.asarray(dev_labels)
        if (gold == gold[:1]).all():
            needed = "different label sets" if gold.ndim == 2 else "at least two classes"
            raise UserError(f"the linear baseline needs training texts of {needed}")
        started = time.perf_counter()
        self._words.fit(segmented)
        self._characters.fit(texts)
        features, dev = self._features(texts, segmented), self._features(dev_texts, dev_segmented)
        self.dev_accuracy = -1.0
        for c in with_progress_bar(CS, "LinearSVC", len(CS), "models"):
            svm = _fitted(c, features, gold)
            if isinstance(svm, _OneVsRest):
                svm.choose_thresholds(dev, dev_gold.astype(np.bool_), self._target_metric)
            predicted = svm.predict(dev)
            correct = predicted == dev_gold
            reached = float(correct.mean())
            if gold.ndim == 2:
                reached, correct = micro_f1(dev_gold.astype(np.bool_), predicted), correct.all(axis=1)
            if reached > self.dev_accuracy:
                self.c, self.dev_accuracy, self.dev_correct, self._svm = c, reached, correct, svm
        self.seconds = time.perf_counter() - started
        log.info("LinearSVC: C %g, dev %s %.4f, %.0f s", self.c, self._measured, self.dev_accuracy, self.seconds)
        return self

    def predict(self, texts: Sequence[str]) -> NDArray[Any]:
        """Class numbers (texts,) of raw texts, or which classes they have (texts, classes), segmentation included."""
        predicted = self._svm.predict(self._features(texts, [self._segmenter.segment(text) for text in texts]))
        return np.asarray(predicted, np.int64 if predicted.ndim == 1 else np.bool_)

    def scores(self, texts: Sequence[str], segmented: Segmented, classes: int) -> NDArray[np.float32]:
        """Distances from the hyperplanes, (texts, classes); with one label per text, those of a text have mean 0."""
        parts = [np.empty((0, classes), np.float32)]
        for start in range(0, len(texts), CHUNK):
            part = slice(start, start + CHUNK)
            parts.append(_scores(self._svm, self._features(texts[part], segmented[part]), classes))
        return np.concatenate(parts)

    def held_out_scores(
        self, texts: Sequence[str], segmented: Segmented, labels: Labels, classes: int
    ) -> NDArray[np.float32]:
        """Scores (texts, classes) of the training texts, each from a model that was not trained on it.

        Five-fold cross-validation with the chosen C, stratified by class or label set. A class that is missing in the
        training texts of a fold gets the lowest score; in label sets, a score of -1.
        """
        features, gold = self._features(texts, segmented), np.asarray(labels)
        strata = np.unique(gold, axis=0, return_inverse=True)[1].ravel() if gold.ndim == 2 else gold
        scores = np.zeros((len(gold), classes), np.float32)
        shuffled = np.random.default_rng(0).permutation(len(gold))
        fold = np.empty(len(gold), np.int64)
        fold[shuffled[np.argsort(strata[shuffled], kind="stable")]] = np.arange(len(gold)) % FOLDS
        for number in with_progress_bar(range(FOLDS), "LinearSVC, held out", FOLDS, "models"):
            train, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            if len(held_out) and len(np.unique(strata[train])) > 1:
                svm = _fitted(self.c, features[train], gold[train])
                scores[held_out] = _scores(svm, features[held_out], classes)
        return scores

    @property
    def parameters(self) -> int:
        """Weights and biases of the SVM."""
        return int(self._svm.coef_.size + self._svm.intercept_.size)

    def _features(self, texts: Sequence[str], segmented: Segmented) -> csr_matrix:
        """TF-IDF of words, word pairs and character n-grams, sparse (texts, features)."""
        return hstack([self._words.transform(segmented), self._characters.transform(texts)], format="csr")


class _OneVsRest:
    """A LinearSVC per class for label sets; a class that all training texts have, or none, is always predicted so.

    scikit-learn's own warns of such classes, and has no weights. ``thresholds`` (classes,) are for the sigmoid of the
    distances from the hyperplanes.
    """

    def __init__(self, c: float, features: csr_matrix, gold: NDArray[Any]) -> None:
        """Train on sparse features (texts, features) and label sets (texts, classes)."""
        self.coef_ = np.zeros((gold.shape[1], features.shape[1]))
        self.intercept_ = np.where(gold.all(axis=0), 1.0, -1.0)
        for index in np.flatnonzero(gold.any(axis=0) & ~gold.all(axis=0)):
            svm = LinearSVC(C=c, random_state=0).fit(features, gold[:, index])
            self.coef_[index], self.intercept_[index] = svm.coef_[0], svm.intercept_[0]
        self.thresholds: tuple[float, ...] = (DEFAULT_THRESHOLD,) * gold.shape[1]

    def choose_thresholds(self, features: csr_matrix, gold: NDArray[np.bool_], metric: TargetMetric) -> None:
        """Choose the thresholds on dev as those of the other models; see :func:`multi_label.choose_thresholds`."""
        self.thresholds = choose_thresholds(sigmoid(self.decision_function(features)), gold, metric)

    def decision_function(self, features: csr_matrix) -> NDArray[np.float64]:
        """Distances from the hyperplanes, (texts, classes)."""
        return np.asarray(features @ self.coef_.T + self.intercept_)

    def predict(self, features: csr_matrix) -> NDArray[np.bool_]:
        """Which classes every text has, (texts, classes)."""
        return exceeding(sigmoid(self.decision_function(features)), self.thresholds)


def _fitted(c: float, features: csr_matrix, gold: NDArray[Any]) -> LinearSVC | _OneVsRest:
    """An SVM for class numbers (texts,), or one per class for label sets (texts, classes)."""
    return _OneVsRest(c, features, gold) if gold.ndim == 2 else LinearSVC(C=c, random_state=0).fit(features, gold)


def _scores(svm: LinearSVC | _OneVsRest, features: csr_matrix, classes: int) -> NDArray[np.float32]:
    distances = svm.decision_function(features)
    if isinstance(svm, _OneVsRest):
        return np.asarray(distances, np.float32)
    if distances.ndim == 1:  # two classes have a single hyperplane
        distances = np.stack([-distances, distances], axis=1) / 2
    scores = np.repeat(distances.min(axis=1, keepdims=True), classes, axis=1)
    scores[:, svm.classes_] = distances
    return np.asarray(scores - scores.mean(axis=1, keepdims=True), np.float32)
