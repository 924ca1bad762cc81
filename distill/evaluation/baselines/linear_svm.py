"""The linear baseline: an SVM over TF-IDF features, without word vectors, network or teacher.

A student that does not beat it is not worth its cost.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from distill.errors import UserError
from distill.progress import log, with_progress_bar
from distill.text.segmentation import Segmenter

CS = (0.05, 0.1, 0.2, 0.5, 1.0)
CHARACTERS = (1, 4)  # lengths of the character n-grams
FOLDS = 5
CHUNK = 16_384  # texts whose features are in memory at a time

Labels = Sequence[int] | NDArray[np.int64]
Segmented = Sequence[Sequence[str]]


def words_and_pairs(words: Sequence[str]) -> list[str]:
    """The words of a text and its pairs of adjacent words."""
    return [*words, *(f"{first} {second}" for first, second in itertools.pairwise(words))]


class LinearBaseline:
    """Linear SVM over TF-IDF of words, pairs of words and 1 to 4 characters; its C is chosen on dev.

    After :meth:`fit`: ``c`` is the chosen C, ``dev_accuracy`` its accuracy on dev (a share), ``dev_correct`` (texts,)
    marks the dev texts that it gets right, and ``seconds`` is the time of :meth:`fit` for all values of C.

    Args:
        segmenter: for the texts to predict.
        measured: what the share of correct texts is called in messages.
    """

    def __init__(self, segmenter: Segmenter, measured: str = "accuracy") -> None:
        self._segmenter, self._measured = segmenter, measured
        # sublinear: a term frequency counts by its logarithm
        self._words = TfidfVectorizer(analyzer=words_and_pairs, sublinear_tf=True)
        self._characters = TfidfVectorizer(analyzer="char", ngram_range=CHARACTERS, sublinear_tf=True)
        self._svm = LinearSVC()
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
            UserError: all texts have the same label.
        """
        if len(set(map(int, labels))) < 2:
            raise UserError("the linear baseline needs training texts of at least two classes")
        started = time.perf_counter()
        self._words.fit(segmented)
        self._characters.fit(texts)
        features, dev = self._features(texts, segmented), self._features(dev_texts, dev_segmented)
        self.dev_accuracy = -1.0
        for c in with_progress_bar(CS, "LinearSVC", len(CS), "models"):
            svm = LinearSVC(C=c, random_state=0).fit(features, labels)
            correct = svm.predict(dev) == np.asarray(dev_labels)
            if correct.mean() > self.dev_accuracy:
                self.c, self.dev_accuracy, self.dev_correct, self._svm = c, float(correct.mean()), correct, svm
        self.seconds = time.perf_counter() - started
        log.info("LinearSVC: C %g, dev %s %.4f, %.0f s", self.c, self._measured, self.dev_accuracy, self.seconds)
        return self

    def predict(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Class numbers (texts,) of raw texts, segmentation included."""
        features = self._features(texts, [self._segmenter.segment(text) for text in texts])
        return np.asarray(self._svm.predict(features), dtype=np.int64)

    def scores(self, texts: Sequence[str], segmented: Segmented, classes: int) -> NDArray[np.float32]:
        """Distances from the hyperplanes, (texts, classes); the scores of a text have mean 0."""
        parts = [np.empty((0, classes), np.float32)]
        for start in range(0, len(texts), CHUNK):
            part = slice(start, start + CHUNK)
            parts.append(_scores(self._svm, self._features(texts[part], segmented[part]), classes))
        return np.concatenate(parts)

    def held_out_scores(
        self, texts: Sequence[str], segmented: Segmented, labels: Labels, classes: int
    ) -> NDArray[np.float32]:
        """Scores (texts, classes) of the training texts, each from a model that was not trained on it.

        Five-fold cross-validation with the chosen C, stratified by class. A class that is missing in the training texts
        of a fold gets the lowest score.
        """
        features, gold = self._features(texts, segmented), np.asarray(labels)
        scores = np.zeros((len(gold), classes), np.float32)
        shuffled = np.random.default_rng(0).permutation(len(gold))
        fold = np.empty(len(gold), np.int64)
        fold[shuffled[np.argsort(gold[shuffled], kind="stable")]] = np.arange(len(gold)) % FOLDS
        for number in with_progress_bar(range(FOLDS), "LinearSVC, held out", FOLDS, "models"):
            train, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            if len(held_out) and len(np.unique(gold[train])) > 1:
                svm = LinearSVC(C=self.c, random_state=0).fit(features[train], gold[train])
                scores[held_out] = _scores(svm, features[held_out], classes)
        return scores

    @property
    def parameters(self) -> int:
        """Weights and biases of the SVM."""
        return int(self._svm.coef_.size + self._svm.intercept_.size)

    def _features(self, texts: Sequence[str], segmented: Segmented) -> csr_matrix:
        """TF-IDF of words, word pairs and character n-grams, sparse (texts, features)."""
        return hstack([self._words.transform(segmented), self._characters.transform(texts)], format="csr")


def _scores(svm: LinearSVC, features: csr_matrix, classes: int) -> NDArray[np.float32]:
    distances = svm.decision_function(features)
    if distances.ndim == 1:  # two classes have a single hyperplane
        distances = np.stack([-distances, distances], axis=1) / 2
    scores = np.repeat(distances.min(axis=1, keepdims=True), classes, axis=1)
    scores[:, svm.classes_] = distances
    return np.asarray(scores - scores.mean(axis=1, keepdims=True), np.float32)
