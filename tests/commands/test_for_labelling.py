"""--for_labelling: which texts are worth labelling; the table comes back as a teacher."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import output_of, titles

from distill.commands.for_labelling import STRATA, choose
from distill.data import Example

TEXTS = [Example.of("字" * length + str(number), 0) for length in range(1, 101) for number in range(3)]


def test_texts_of_all_lengths_are_drawn_and_near_repeats_once() -> None:
    chosen = choose(TEXTS, 20)
    lengths = [len(TEXTS[index].text) - 1 for index in chosen]
    assert len(set(lengths)) == 20  # texts that differ in their number alone count once
    assert np.bincount([(length - 1) // (100 // STRATA) for length in lengths]).tolist() == [2] * STRATA
    assert lengths != sorted(lengths) and chosen == choose(TEXTS, 20) != choose(TEXTS, 20, seed=1)
    assert len(choose(TEXTS, 5_000)) == 100


def test_with_a_model_half_of_them_are_those_that_it_is_least_sure_of() -> None:
    margins = np.linspace(0, 1, len(TEXTS))
    chosen = choose(TEXTS, 20, margins)
    least_sure = set(range(0, 30, 3))  # of each three near repeats the first
    assert least_sure <= set(chosen) and len(set(chosen)) == 20
    assert max(margins[index] for index in chosen) > 0.8


def test_the_table_is_labelled_and_comes_back_as_a_teacher(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {f"{text}第二季": label for text, label in titles(0, 60)}
    (tmp_path / "more.txt").write_text("\n".join([*more, *(text for text, _ in titles(0, 30))]), "utf-8")
    run = shutil.copytree(finished_run, tmp_path / "run")
    flags = [*tiny_flags, "--run", str(run), "--unlabeled", str(tmp_path / "more.txt")]
    output = output_of(capsys, [*flags, "--mode", "label", "--for_labelling", "12"])
    assert "12 of 60 texts without labels to label (the least sure of" in output
    path = run / "for_labelling.csv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["text", "label"] and len(rows) == 12 and {text for text, _ in rows} <= more.keys()
    empty = output_of(capsys, [*flags, "--mode", "train_student", "--teacher", str(path)], code=2)
    assert "no row has an answer in the column label -> fill in the labels" in empty
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *((text, more[text]) for text, _ in rows[:10]), *rows[10:]])
    flags += ["--teacher", str(path)]
    output = output_of(capsys, [*flags, "--mode", "train_student", "--student_epochs", "2"])
    assert "left out: 50 of 60 texts without labels" in output
    again = output_of(capsys, [*flags, "--mode", "label", "--for_labelling", "100"])
    assert "50 of 50 texts without labels to label" in again  # those that have an answer are not asked again
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert [label for _, label in csv.reader(file)][1:11] == [more[text] for text, _ in rows[:10]]
    assert len((run / "for_labelling.2.csv").read_text(encoding="utf-8").splitlines()) == 51


def test_texts_alone_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(text for text, _ in titles(0, 40)), "utf-8")
    for flag in ("--unlabeled", "--train_file"):
        run = tmp_path / flag
        flags = ["--mode", "label", "--for_labelling", "15", "--run", str(run), flag, str(texts)]
        assert "15 of 40 texts without labels to label (random, of all lengths)" in output_of(capsys, flags)
        assert [path.name for path in run.iterdir()] == ["for_labelling.csv"]
    nothing = ["--mode", "label", "--for_labelling", "5", "--run", str(tmp_path / "none"), "--data", "data/sample"]
    assert "there is no text without a label -> --unlabeled FILE" in output_of(capsys, nothing, code=2)
