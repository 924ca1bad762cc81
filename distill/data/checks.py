"""Checks of the data before training: each is a figure, and a warning beyond its threshold.

The figures about test are only reported: nothing is chosen by them. The thresholds are generous: public data sets of
headlines and reviews give no warning, apart from unseen words when train is small.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.data.examples import Dataset, Example
from distill.translation import Listed, Text

MIN_TEXTS_IN_CLASS = 10
MAX_TRUNCATED = 0.05  # share of the texts
MAX_UNKNOWN_PIECES = 0.1  # share of the word pieces
MAX_UNSEEN_WORDS = (
    0.25  # share of the words of test: of headlines 11 % with 12,000 train texts, 25 % with 2,000, 45 % with 300
)
SIMILAR_SHARE = 1.5  # test with up to so many times dev's share of unseen words holds texts of the same kind
MAX_OTHER_LABELS = 0.1  # total variation distance between the label proportions of train and test
CHANCE = 0.001  # and p-value of the chi-squared test: with many texts, tiny differences are significant too
COVERED = 0.98  # share of the texts that a suggested maximum length holds
MAX_LISTED = 5


@dataclass(frozen=True)
class Check:
    """A figure about the data, and whether it is beyond its threshold.

    Args:
        name: what was measured, in a few words.
        figure: the value; shares are between 0 and 1.
        threshold: the last value that is not a warning.
        message: the figure in a sentence, which the report shows in Chinese too; if it is a warning, also what to do.
        is_warning: whether the figure is beyond the threshold.
    """

    name: str
    figure: float
    threshold: float
    message: Text
    is_warning: bool


def data_checks(data: Dataset) -> list[Check]:
    """The checks that need only the data set."""
    checks = [_class_sizes(data), _missing_classes(data)]
    return [*checks, _label_proportions(data)] if data.test and not data.is_multi_label else checks


def _class_sizes(data: Dataset) -> Check:
    """The fewest train texts in a class; classes that dev or test have and train lacks are another check's."""
    name, missing = "fewest train texts in a class", set(_missing(data))
    counts = _counts(data, data.train)
    sizes = {label: count for label, count in zip(data.labels, counts, strict=True) if label not in missing}
    smallest = min(sizes, key=sizes.__getitem__)
    small = {label: n for label, n in sorted(sizes.items(), key=lambda item: item[1]) if n < MIN_TEXTS_IN_CLASS}
    message = Text("fewest train texts in a class: {count} ({label})", count=sizes[smallest], label=smallest)
    if small:
        message = Text(
            "{classes} fewer than {least} train texts: {small}. A model hardly learns a class from so few texts: add "
            "more, or give them the label of a larger class.",
            classes=Text(
                "{count} of {classes} classes has" if len(small) == 1 else "{count} of {classes} classes have",
                count=len(small),
                classes=len(data.labels),
            ),
            least=MIN_TEXTS_IN_CLASS,
            small=_with_counts(small),
        )
    return Check(name, int(sizes[smallest]), MIN_TEXTS_IN_CLASS, message, bool(small))


def _missing_classes(data: Dataset) -> Check:
    """The classes that dev or test have and train lacks."""
    missing = _missing(data)
    message = Text("classes of dev and test that train lacks: none")
    if missing:
        message = Text(
            "train has no text of {count} of the classes of dev and test: {sizes}. No model can predict them: move "
            "some of these texts to train, or remove all of them.",
            count=len(missing),
            sizes=_with_counts(missing),
        )
    return Check("classes of dev and test that train lacks", len(missing), 0, message, bool(missing))


def _with_counts(counts: dict[str, int]) -> Text:
    """The first labels with their numbers of texts, and how many more labels there are."""
    first = itertools.islice(counts.items(), MAX_LISTED)
    labels = Listed((Text("{label} ({count})", label=label, count=count) for label, count in first), ", ", "、")
    more = len(counts) - MAX_LISTED
    return Text("{labels} and {more} more", labels=labels, more=more) if more > 0 else labels


def _missing(data: Dataset) -> dict[str, int]:
    """The labels of dev and test that train lacks, with their numbers of texts."""
    train, others = _counts(data, data.train), _counts(data, (*data.dev, *data.test))
    return {label: int(n) for label, own, n in zip(data.labels, train, others, strict=True) if n and not own}


def _label_proportions(data: Dataset) -> Check:
    """The total variation distance between the label proportions of train and test.

    It is a warning if it is large and a chi-squared test says that it is not chance.
    """
    from scipy.stats import chi2_contingency

    name = "label proportions of train and test"
    counts = np.stack([_counts(data, data.train), _counts(data, data.test)])
    train, test = counts / counts.sum(1, keepdims=True)
    distance = float(abs(train - test).sum() / 2)
    distant = Text("{share} of the test texts would need another label to make them equal", share=_percent(distance))
    if distance <= MAX_OTHER_LABELS or chi2_contingency(counts[:, counts.sum(0) > 0]).pvalue >= CHANCE:
        message = Text("label proportions of train and test: {distant}", distant=distant)
        return Check(name, distance, MAX_OTHER_LABELS, message, False)
    largest = int(abs(train - test).argmax())
    message = Text(
        "train and test have other label proportions: {distant}. The largest difference: {label} is {train} of train "
        "and {test} of test. Results on test then say little about texts like those of train. If your texts are like "
        "train, leave out the test file, and a tenth of train is held out instead.",
        distant=distant,
        label=data.labels[largest],
        train=_percent(train[largest]),
        test=_percent(test[largest]),
    )
    return Check(name, distance, MAX_OTHER_LABELS, message, True)


def _counts(data: Dataset, examples: Sequence[Example]) -> NDArray[np.int64]:
    """The number of texts of every class, shape (classes,)."""
    classes = [index for example in examples for index in example.classes]
    return np.bincount(np.array(classes, np.int64), minlength=len(data.labels))


def unseen_words(train: Sequence[Sequence[str]], dev: Sequence[Sequence[str]], test: Sequence[Sequence[str]]) -> Check:
    """The share of the words of the segmented test texts that no train text contains; dev's is for comparison."""
    known = {word for words in train for word in words}
    of_dev, of_test = (_share([word not in known for words in split for word in words]) for split in (dev, test))
    name, is_warning = "words of test that never occur in train", of_test > MAX_UNSEEN_WORDS
    figures = {"test": _percent(of_test), "dev": _percent(of_dev)}
    message = Text("words of test that never occur in train: {test} (dev: {dev})", **figures)
    if is_warning and of_test <= SIMILAR_SHARE * of_dev:
        message = Text(
            "{figures}. There are few train texts: add more, or texts without labels (--unlabeled FILE).",
            figures=message,
        )
    elif is_warning:
        message = Text(
            "{figures}. Test holds texts of another kind than train and dev: compare the subjects and the script "
            "(simplified or traditional) of the files.",
            figures=message,
        )
    return Check(name, of_test, MAX_UNSEEN_WORDS, message, is_warning)


def truncated_texts(
    reader: str, lengths: Mapping[str, Sequence[int]], max_length: int, unit: Text, limit: int = 0
) -> Check:
    """The share of texts that are longer than a model reads, in the split where it is largest.

    Args:
        reader: the model, "teacher" or "student".
        lengths: of the texts of "train" and of "test", in ``unit``.
        max_length: that the model reads.
        unit: what is counted, in the plural.
        limit: the largest ``max_length`` that the model can have; 0: any.
    """
    name = f"texts that the {reader} truncates"
    shares = {split: _share([length > max_length for length in values]) for split, values in lengths.items()}
    message = Text(
        "texts that the {reader} truncates to {length} {unit}: {train} of train and {test} of test",
        reader=Text(reader),
        length=max_length,
        unit=unit,
        **{split: _percent(share) for split, share in shares.items()},
    )
    is_warning = max(shares.values()) > MAX_TRUNCATED
    if is_warning:
        needed = max(_covering_length(values) for values in lengths.values() if values)
        possible = min(needed, limit or needed)
        flag = f"--{reader}_max_length {possible}"
        message = (
            Text("{figures}. To read longer texts, which takes longer: {flag}.", figures=message, flag=flag)
            if possible > max_length
            else Text(
                "{figures}. It can read no more: put what decides the label into the first {length} {unit}.",
                figures=message,
                length=max_length,
                unit=unit,
            )
        )
    return Check(name, max(shares.values()), MAX_TRUNCATED, message, is_warning)


def _covering_length(lengths: Sequence[int]) -> int:
    """A multiple of 8 that nearly all lengths stay within."""
    return 8 * math.ceil(sorted(lengths)[math.ceil(COVERED * len(lengths)) - 1] / 8)


def unknown_pieces(share: float, unknown: str, characters: Sequence[str]) -> Check:
    """The share of word pieces that the teacher's tokenizer does not know.

    Args:
        share: of the word pieces.
        unknown: the word piece that stands for them, such as "[UNK]".
        characters: that the tokenizer does not know, the most frequent first.
    """
    is_warning = share > MAX_UNKNOWN_PIECES
    message = Text("word pieces of the teacher that are {unknown}: {share}", unknown=unknown, share=_percent(share))
    if is_warning:
        message = Text(
            "{figures}. Its tokenizer does not know these characters (most frequent: {characters}): convert "
            "traditional characters to simplified ones, or use an encoder for Chinese (--teacher_model).",
            figures=message,
            characters=" ".join(characters[:MAX_LISTED]),
        )
    return Check("unknown word pieces of the teacher", share, MAX_UNKNOWN_PIECES, message, is_warning)


def _share(flags: Sequence[bool]) -> float:
    """The share of flags that are true; 0 if there are none."""
    return sum(flags) / len(flags) if flags else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
