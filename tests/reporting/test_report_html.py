"""report.html: everything in one file, nothing in it that a text could break, the same file from the same run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COUNTS
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation import metrics
from distill.evaluation.metrics import reliability
from distill.reporting import confusions, report_html
from distill.reporting.html import sections
from distill.reporting.mistakes import LONGEST, mistakes
from distill.reporting.plots import svg
from distill.reporting.results import Outcome, Report, first_seeds, rows_of

DRAWING = "distill.reporting.html.svg"
GOLD = np.array([0, 1, 2, 0, 1, 2])
SCRIPT = '<script>alert("x")</script>'
VOID = {"meta", "br", "link", "img", "hr"}


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Figures are laid out by matplotlib, which takes a second a page: few tests need to see them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DRAWING, lambda figure: "<svg></svg>")
        yield


def outcome(name: str, logits: list[list[float]], **more: Any) -> Outcome:
    history = [{"epoch": epoch, "dev_accuracy": 0.5 + epoch / 10, "dev_loss": 0.7} for epoch in (1, 2)]
    known = {"ms_per_text": {"cpu": 8.0 if name == "teacher" else 0.5}, "history": history}
    return Outcome(name, 1, np.array(logits, dtype=np.float32), 1000, 4_000_000, **{**known, **more})


TEACHER = outcome("teacher", [[3, 0, 0], [0, 2, 0], [0, 0, 2], [0, 2, 0], [0, 2, 0], [0, 1, 0]])
STUDENT = outcome("student", [[2, 0, 0], [5, 0, 0], [0, 0, 1], [0, 1, 0], [0, 2, 0], [0, 4, 0]], temperature=2.0)


def report(texts: list[str] | None = None, **more: Any) -> Report:
    usual: dict[str, Any] = {
        "name": "titles",
        "texts": texts or [f"标题{place}" for place in range(6)],
        "gold": GOLD,
        "first_of_text": np.ones(6, dtype=np.bool_),
        "labels": ("体育", "财经", "科技"),
        "outcomes": [TEACHER, STUDENT],
        "data": dict.fromkeys(COUNTS, 7),
        "settings": {"run": {"seed": 1, "teacher": ["a", "b"]}, "made_from": {"student": {"objective": {"x": 0.5}}}},
        "versions": {"python": "3.11"},
        "timing": "Time: 2 cores.",
    }
    return Report(**{**usual, **more})


def page_of(made: Report, folder: Path) -> str:
    rows = rows_of(made.outcomes, made.gold, made.first_of_text, len(made.labels))
    details = {"teacher": "precision"}
    return report_html.write(made, rows, details, folder / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """A page's elements, attributes and texts; every element must be closed in its order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_one_file_without_script_or_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DRAWING, svg)
    page = page_of(report(), tmp_path)
    assert page == page_of(report(), tmp_path), "the same run gives the same page"
    assert not re.search(r"20\d\d-\d\d-\d\d", page)
    read = Reader(page)
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(read.names)
    asked = [value for name, value in read.attributes if name in ("src", "href", "xlink:href", "action", "srcset")]
    assert asked and all(value.startswith("#") for value in asked)
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page


def test_it_says_what_was_measured(tmp_path: Path) -> None:
    page = page_of(report(missing=["Not there: student_alone"], doubts="label_noise.csv"), tmp_path)
    for said in ("50.0 %", "75.0 %", "16 ×", "Not there: student_alone", "Time: 2 cores.", "temperature 2.000"):
        assert said in page, said
    assert '<a href="label_noise.csv">' in page
    assert page.count("<svg") == 5  # speed, two curves, two diagrams
    assert "<dt>teacher</dt><dd>a, b</dd>" in page and "<dt>student.objective.x</dt><dd>0.5</dd>" in page


def test_a_text_with_a_script_does_no_harm(tmp_path: Path) -> None:
    labels = ("体育", f"财经{SCRIPT}", '科技" onload="x')
    made = report([SCRIPT] * 6, labels=labels, name=SCRIPT, settings={SCRIPT: {SCRIPT: SCRIPT}})
    page = page_of(made, tmp_path)
    read = Reader(page)
    assert "script" not in read.names and "<script" not in page
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert SCRIPT in "".join(read.texts)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=30), min_size=6, max_size=6))
def test_any_text_stands_on_the_page(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    page = page_of(report([f"<{text}" for text in texts]), tmp_path_factory.mktemp("page"))
    assert "bdi" in Reader(page).names and "\0" not in page


def test_with_one_kind_of_model_nothing_is_compared(tmp_path: Path) -> None:
    for only in (TEACHER, STUDENT):
        page = page_of(report(outcomes=[only]), tmp_path)
        assert "of its teacher" not in page and "minus teacher" not in page and "the teacher says" not in page
        Reader(page)


def test_a_teacher_that_is_never_right_is_no_measure(tmp_path: Path) -> None:
    hopeless = replace(TEACHER, logits=np.eye(3, dtype=np.float32)[(GOLD + 1) % 3])
    assert "of its teacher" not in page_of(report(outcomes=[hopeless, STUDENT]), tmp_path)


def test_a_student_slower_than_its_teacher_is_not_rounded_away(tmp_path: Path) -> None:
    slow = replace(STUDENT, ms_per_text={"cpu": 18.0})
    assert "<b>0.44 ×</b>" in page_of(report(outcomes=[TEACHER, slow]), tmp_path)


def test_without_mistakes(tmp_path: Path) -> None:
    right = replace(STUDENT, logits=np.eye(3, dtype=np.float32)[GOLD])
    assert "There are none." in page_of(report(outcomes=[right]), tmp_path)


def test_a_comparison_stands_in_the_report(tmp_path: Path) -> None:
    row = {"name": "bilstm, logits", "objective": "logits", "student": "bilstm", "seeds": 1, "against": ""}
    row |= dict.fromkeys(("kept", "gain", "p_value", "ece", "ece_calibrated"))
    row |= {"accuracy": 0.81, "accuracy_sd": 0.0, "train_seconds": 3, "train_texts": 7, "ms_per_text": 1.0}
    content = {"rows": [row | {"parameters": 5}], "left_out": [], "data": report().data, "timing": "Elsewhere."}
    page = page_of(report(comparison=content), tmp_path)
    assert 'id="comparison"' in page and "bilstm, logits" in page and "Elsewhere." in page
    assert 'id="comparison"' not in page_of(report(), tmp_path)


def test_the_surest_mistakes_come_first() -> None:
    found = mistakes(STUDENT, TEACHER, GOLD, list("abcdef"), "xyz")
    assert [one.text for one in found] == ["b", "f", "d"]
    sure = metrics.softmax(STUDENT.logits, 2.0)[1].max()
    assert (found[0].label, found[0].predicted, found[0].sure) == ("y", "x", f"{100 * sure:.0f}\u00a0%")
    assert [one.asked_is_right for one in found] == [True, False, False]


def test_mistakes_are_said_once_and_not_at_length() -> None:
    found = mistakes(STUDENT, None, GOLD, ["a", "长" * 999, "c", "d", "e", "长" * 999], "xyz")
    assert [one.text for one in found] == ["长" * LONGEST + "…", "d"]


def test_the_diagram_has_the_bins_of_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 4, 500)
    probabilities = metrics.softmax(rng.normal(size=(500, 4)) * 3)
    points = reliability(probabilities, gold)
    error = (points.texts * np.abs(points.accuracy - points.confidence)).sum() / points.texts.sum()
    assert error == pytest.approx(metrics.expected_calibration_error(probabilities, gold))
    assert points.texts.sum() == 500 and (np.diff(points.confidence) > 0).all()


def test_better_is_more_on_the_diagonal_and_less_beside_it() -> None:
    *_, difference = confusions.matrices([TEACHER, STUDENT], GOLD, 3)
    assert difference.caption.startswith("distilled student minus teacher")
    assert [[cell.text for cell in line] for line in difference.cells] == [
        ["0", "0", "0"],
        ["+1", "−1", "0"],
        ["0", "0", "0"],
    ]
    assert [cell.look for cell in difference.cells[1]] == ["bad", "bad", ""]
    (student,) = confusions.matrices([STUDENT], GOLD, 3)
    assert [[cell.text for cell in line] for line in student.cells] == [
        ["1", "1", "0"],
        ["1", "1", "0"],
        ["0", "1", "1"],
    ]
    assert student.cells[0][0].share == 50


def test_of_very_many_labels_those_with_most_mistakes_are_shown(tmp_path: Path) -> None:
    gold = np.arange(40)
    logits = np.eye(40, dtype=np.float32)
    logits[[3, 39]] = logits[[39, 3]]
    model = outcome("student", logits.tolist())
    shown = confusions.shown_labels([model], gold, 40)
    assert len(shown) == confusions.MOST and {3, 39} <= set(shown.tolist())
    labels = tuple(f"l{place}" for place in range(40))
    texts = [str(place) for place in range(40)]
    made = report(texts, gold=gold, labels=labels, outcomes=[model], first_of_text=np.ones(40, dtype=np.bool_))
    assert "Of 40 labels the 30 with most mistakes." in page_of(made, tmp_path)


def test_settings_lie_one_level_deep() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [{"e": 2}, {"e": 3}], "f": ()}}
    assert sections(nested, more={"x": None}) == {
        "a": {"b.c": 1, "d 1.e": 2, "d 2.e": 3, "f": ""},
        "more": {"x": None},
    }


def test_the_first_seed_is_shown() -> None:
    second = replace(STUDENT, seed=2)
    assert first_seeds([STUDENT, second, TEACHER]) == [TEACHER, STUDENT]
