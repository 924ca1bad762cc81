"""General Chinese for the teacher to label where texts are few: news sentences or, for tasks like them, reviews."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB

from distill.data.demo import read_reviews, read_sentences
from distill.data.splits import evenly_spaced
from distill.progress import log

LONGEST_SENTENCE, LONGEST_REVIEW = 36, 128  # characters; a sentence is about as long as a headline
COMPARED = 5_000  # texts of each kind, and of the task, that decide which kind the task is more like
MIN_LIKE_REVIEWS = 0.9  # share of the task's texts; of headlines .6 are more like reviews than like news of 1998


def general_sentences(texts: Sequence[str], seed: int) -> list[str]:
    """Distinct texts of general Chinese in random order: news sentences, after all reviews if ``texts`` are like those.

    Args:
        texts: of the task; their length limits that of the news sentences, of which very short texts leave none.
        seed: of the order.
    """
    news, reviews = read_sentences(min(max(map(len, texts)), LONGEST_SENTENCE)), _reviews()
    for kind in (news, reviews):
        random.Random(seed).shuffle(kind)
    share = share_like(evenly_spaced(texts, COMPARED), reviews[:COMPARED], news[:COMPARED]) if news else 0.0
    if share < MIN_LIKE_REVIEWS:
        return news
    log.info("general sentences: reviews first, as %.0f %% of the texts are more like reviews than news", 100 * share)
    return [*reviews, *news]


def _reviews() -> list[str]:
    return list(dict.fromkeys(example.text for example in read_reviews(LONGEST_REVIEW)))


def share_like(texts: Sequence[str], kind: Sequence[str], other: Sequence[str]) -> float:
    """The share of ``texts`` that a naive Bayes classifier over pairs of characters assigns to ``kind``."""
    counter = CountVectorizer(analyzer="char", ngram_range=(2, 2))
    counts = counter.fit_transform([*kind, *other])
    classifier = MultinomialNB(fit_prior=False).fit(counts, np.arange(len(kind) + len(other)) < len(kind))
    return float(classifier.predict(counter.transform(texts)).mean())
