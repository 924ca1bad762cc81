"""``--mode label --for_labelling N``: texts that are worth labelling, as a table for people or a language model.

Without a model they are drawn at random, equally many from each tenth of the lengths, so that short and long texts are
all there. With a model, half of them are those that it is least sure of (the margin between its two most probable
labels; Scheffer et al. 2001; where a text may have several labels, the distance of its least sure one from 1/2), the
other half are drawn at random: unsure texts alone would give a biased sample.
"""

from __future__ import annotations

import csv
import io
import itertools
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from distill.commands.experiment import ALONE, DISTILLED, TEACHER, Run
from distill.data import Example, text_key
from distill.errors import UserError
from distill.models.text_classifier import load_student
from distill.progress import log
from distill.storage.atomic import write_file
from distill.storage.run_folder import LOG, STUDENT_CARD
from distill.teachers import ModelTeacher
from distill.teachers.saved import SavedTeacher

STRATA = 10
UNSURE_SHARE = 0.5  # of the texts, if there is a model
NOT_LETTERS = re.compile(r"[\W\d_]+")


def write_for_labelling(run: Run) -> Path:
    """Write the table, with the columns text and label; the labels are to be filled in.

    Raises:
        UserError: no text without a label is left.
    """
    texts, wanted = _candidates(run), run.settings.transfer.for_labelling
    if not texts:
        what = "there is no text without a label"
        raise UserError(what, "--for_labelling", "--unlabeled FILE with texts, one per line")
    margins, model = _margins(run, texts)
    seed = run.settings.run.seed
    chosen = choose(texts, wanted, margins, seed)
    path = _write(_new(run.folder.for_labelling), [texts[index].text for index in chosen])
    method = f"the least sure of {model} and random ones" if margins is not None else "random, of all lengths"
    log.info("%d of %d texts without labels to label (%s): %s", len(chosen), len(texts), method, path)
    log.info("fill in the column label, then: python distill.py --teacher %s%s …", run.of_task, path)
    return path


def choose(
    texts: Sequence[Example], count: int, margins: NDArray[np.float64] | None = None, seed: int = 0
) -> list[int]:
    """Indices of the texts to label, in random order; texts that differ in digits and punctuation alone count once.

    ``margins`` (texts,) are small where a model is unsure; None: there is no model.
    """
    distinct = list({_letters(text): index for index, text in reversed(list(enumerate(texts)))}.values())[::-1]
    unsure: list[int] = []
    if margins is not None:
        unsure = sorted(distinct, key=lambda index: margins[index])[: round(UNSURE_SHARE * count)]
    rest = sorted(set(distinct) - set(unsure))
    chosen = [*unsure, *_of_all_lengths(texts, rest, count - len(unsure), seed)]
    random.Random(seed).shuffle(chosen)
    return chosen


def _letters(example: Example) -> str:
    return NOT_LETTERS.sub("", text_key(example.text)) or example.text


def _of_all_lengths(texts: Sequence[Example], indices: Sequence[int], count: int, seed: int) -> list[int]:
    """A random sample that takes turns among tenths of the texts, sorted by length."""
    rng = random.Random(seed)
    by_length = sorted(indices, key=lambda index: len(texts[index].text))
    strata = [by_length[len(by_length) * i // STRATA : len(by_length) * (i + 1) // STRATA] for i in range(STRATA)]
    for stratum in strata:
        rng.shuffle(stratum)
    turns = [(turn, number, index) for number, stratum in enumerate(strata) for turn, index in enumerate(stratum)]
    return [index for _, _, index in sorted(turns)[: max(0, count)]]


def _candidates(run: Run) -> list[Example]:
    """The texts that have neither a label nor a recorded answer."""
    texts = run.unlabelled if run.has_labels else (*run.texts_without_labels, *run.unlabelled)
    others = [teacher for teacher in run.named_teachers if not teacher.is_cached]
    is_multi_label = run.has_labels and run.data.is_multi_label
    own = [teacher.answers(texts, is_multi_label=is_multi_label) for teacher in others]
    answered = np.any(own, axis=0) if own else np.zeros(len(texts), bool)
    return [text for text, has_answer in zip(texts, answered.tolist(), strict=True) if not has_answer]


def _margins(run: Run, texts: Sequence[Example]) -> tuple[NDArray[np.float64] | None, str]:
    """How sure a model is of each text, shape (texts,), and the name of the model; None: there is no model.

    It is the run's student, a teacher of ``--teacher`` that is a model, or the run's own teacher.
    """
    for folder in (run.folder.model(DISTILLED), run.folder.model(ALONE)):
        if (folder / STUDENT_CARD).is_file():
            logits = load_student(folder, run.segmenter).logits([text.text for text in texts], "student")
            return _margin(run, logits), str(folder)
    own = run.folder.model(TEACHER)
    models = [teacher for teacher in run.named_teachers if isinstance(teacher, ModelTeacher)]
    models += [SavedTeacher(own)] if not models and (own / LOG).is_file() else []
    if not models:
        return None, ""
    return _margin(run, run.answering.mean(models[:1], texts).logits), models[0].name


def _margin(run: Run, logits: Tensor) -> NDArray[np.float64]:
    """From 0, unsure, to 1, shape (texts,)."""
    if run.has_labels and run.data.is_multi_label:
        return np.asarray((2 * logits.double().sigmoid() - 1).abs().amin(1).numpy())
    highest = np.sort(logits.softmax(1).double().numpy(), axis=1)[:, -2:]
    return np.asarray(highest[:, 1] - highest[:, 0])


def _new(path: Path) -> Path:
    """The path, with a number if there is such a table, as people may have filled it in."""
    numbered = (path.with_stem(f"{path.stem}.{number}") for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([path], numbered) if not candidate.exists())


def _write(path: Path, texts: Sequence[str]) -> Path:
    """The table in UTF-8 with a byte order mark, without which Excel garbles Chinese."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(["text", "label"])
    writer.writerows([text, ""] for text in texts)
    return write_file(path, table.getvalue().encode("utf-8-sig", "replace"))
