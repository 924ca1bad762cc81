"""report.html: one self-contained file, safe against any text, the same for the same run."""

from __future__ import annotations

import base64
import hashlib
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

from distill.data.checks import Check
from distill.evaluation import metrics
from distill.evaluation.metrics import reliability
from distill.reporting import html, summary
from distill.reporting.comparison_record import ComparisonRecord, ComparisonRow, LeftOutClassRow
from distill.reporting.html import settings_sections
from distill.reporting.mistakes import (
    MAX_CHARACTERS,
    MAX_LABELS,
    confident_mistakes,
    confusion_matrices,
    shown_labels,
)
from distill.reporting.plots import svg
from distill.reporting.report import write_html
from distill.reporting.results import EvaluationContext, Outcome, first_seeds
from distill.reporting.speed import Measurement, Shipped, rows_of
from distill.reporting.summary import LinearResult, Report, Usage, summarise
from distill.translation import Text

DRAWING = "distill.reporting.html.svg"
GOLD = np.array([0, 1, 2, 0, 1, 2])
SCRIPT = '<script>alert("x")</script>'
VOID = {"meta", "br", "link", "img", "hr"}


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Do not draw figures, which takes a second per page; few tests look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DRAWING, lambda figure: "<svg></svg>")
        yield


def outcome(name: str, logits: list[list[float]], **more: Any) -> Outcome:
    history = [{"epoch": epoch, "dev_accuracy": 0.5 + epoch / 10, "dev_loss": 0.7} for epoch in (1, 2)]
    usual = {"ms_per_text": {"cpu": 8.0 if name == "teacher" else 0.5}, "history": history}
    return Outcome(name, 1, np.array(logits, dtype=np.float32), 1000, 4_000_000, **{**usual, **more})


TEACHER = outcome("teacher", [[3, 0, 0], [0, 2, 0], [0, 0, 2], [0, 2, 0], [0, 2, 0], [0, 1, 0]])
STUDENT = outcome("student", [[2, 0, 0], [5, 0, 0], [0, 0, 1], [0, 1, 0], [0, 2, 0], [0, 4, 0]], temperature=2.0)


CONTEXT = EvaluationContext(
    texts=[f"标题{number}" for number in range(6)],
    gold=GOLD,
    first_of_text=np.ones(6, dtype=np.bool_),
    labels=("体育", "财经", "科技"),
    data=dict.fromkeys(COUNTS, 7),
    settings={"run": {"seed": 1, "teacher": ["a", "b"]}, "made_from": {"student": {"objective": {"x": 0.5}}}},
    timing="Time: 2 cores.",
)


ROW = ComparisonRow(
    name="bilstm, logits",
    objective="logits",
    student="bilstm",
    seeds=1,
    accuracy=0.81,
    accuracy_sd=0.0,
    train_seconds=3,
    train_texts=7,
    ms_per_text=1.0,
    parameters=5,
)
COMPARISON = ComparisonRecord([ROW], [LeftOutClassRow("bilstm", 0.5, 0.1, 0.4, 0.1)], CONTEXT.data, {}, "Elsewhere.")
TIMED = [
    Measurement("student, bundle", 1, 256, 512, (25e-6,), (5e-5,), bytes=12_000_000),
    Measurement("teacher, fp32", 1, 16, 64, (25e-4,), (3e-3,)),
    Measurement("bert-base-chinese, fp32", 1, 8, 32, (5e-2,), (6e-2,)),
]
SHIPPED = Shipped(
    rows_of(TIMED, TIMED[2].name),
    *(row.name for row in TIMED),
    is_bundle=True,
    machine="a processor",
    remarks=[Text("BERT-base has random weights: only its time is measured.")],
)


def report(context: EvaluationContext = CONTEXT, **more: Any) -> Report:
    usual: dict[str, Any] = {"name": "titles", "outcomes": [TEACHER, STUDENT], "versions": {"python": "3.11"}}
    return Report(context=context, **{**usual, **more})


def page_of(report: Report, folder: Path) -> str:
    return write_html(report, summarise(report), None, folder / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The elements and attributes of a page, and its texts as shown in a language; elements must be properly nested."""

    def __init__(self, page: str, language: str = "en") -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.of_no_language: list[str] = []
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.hidden = {"en": "zh", "zh": "en"}[language]
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][0] == "script":
            self.scripts.append(data)
        elif not any(attributes.get("class") == self.hidden for _, attributes in self.open):
            self.texts.append(data)
            if "body" in self.names and not any("lang" in attributes for _, attributes in self.open[1:]):
                self.of_no_language.append(data)


def test_the_page_has_one_script_of_its_own_and_no_external_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DRAWING, svg)
    page = page_of(report(), tmp_path)
    assert page == page_of(report(), tmp_path), "the same run must give the same page"
    assert not re.search(r"20\d\d-\d\d-\d\d", page)
    elements = Reader(page)
    assert not {"link", "img", "iframe", "object", "base"} & set(elements.names)
    assert elements.names.count("script") == 1 and elements.scripts == [html.SCRIPT.read_text("utf-8")]
    digest = base64.b64encode(hashlib.sha256(elements.scripts[0].encode()).digest()).decode()
    assert re.findall(r"script-src '([^']*)'", page) == [f"sha256-{digest}"]
    links = [value for name, value in elements.attributes if name in ("src", "href", "xlink:href", "action", "srcset")]
    assert links and all(value.startswith("#") for value in links)
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert "@import" not in page and not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page


def test_it_shows_what_was_measured(tmp_path: Path) -> None:
    page = page_of(report(missing=["Not there: student_alone"], label_noise_file="label_noise.csv"), tmp_path)
    text = "".join(Reader(page).texts)
    for part in (
        "50.0 %",
        "75.0 %",
        "16 ×",
        "Not there: student_alone",
        "Time: 2 cores.",
        "temperature 2.000",
        "The teacher's prediction",
    ):
        assert part in text, part
    assert '<a href="label_noise.csv">' in page
    assert page.count("<svg") == 5  # speed, two curves, two diagrams
    assert "<dt>teacher</dt><dd>a, b</dd>" in page and "<dt>student.objective.x</dt><dd>0.5</dd>" in page


def test_a_script_in_a_text_is_escaped(tmp_path: Path) -> None:
    labels = ("体育", f"财经{SCRIPT}", '科技" onload="x')
    context = replace(CONTEXT, texts=[SCRIPT] * 6, labels=labels, settings={SCRIPT: {SCRIPT: SCRIPT}})
    page = page_of(report(context, name=SCRIPT), tmp_path)
    elements = Reader(page)
    assert elements.names.count("script") == page.count("<script") == 1 and "alert" not in elements.scripts[0]
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert SCRIPT in "".join(elements.texts)


def test_warnings_then_checks_then_decisions(tmp_path: Path) -> None:
    checks = [Check("classes", 0, 0, "classes that train lacks: none", False), Check("words", 0.5, 0.25, "odd", True)]
    warned = report(checks=checks, warnings=["odd", SCRIPT], decisions=["train.csv: GB18030"])
    page = page_of(warned, tmp_path)
    texts = [text.strip() for text in Reader(page).texts if text.strip()]
    shown = texts[texts.index("Checks") + 1 : texts.index("Training", texts.index("Checks"))]
    assert shown[:3] == ["odd", SCRIPT, "classes that train lacks: none"]
    assert shown[3:] == ["What was decided when the data were read:", "train.csv: GB18030"]
    assert (
        "Checks (2 warnings)" in texts
        and "Checks (1 warning)" in Reader(page_of(report(warnings=["x"]), tmp_path)).texts
    )
    sound = Reader(page_of(report(), tmp_path)).texts
    assert "No warnings." in sound and sound.count("Checks") == 2
    text = summary.markdown(summarise(warned)).partition("## Checks\n\n")[2].partition("\n\n")[0]
    expected = ["**warning**: odd", f"**warning**: {SCRIPT}", "classes that train lacks: none", "train.csv: GB18030"]
    assert text.splitlines() == [f"- {line}" for line in expected]


@settings(max_examples=15)
@given(st.lists(st.text(st.characters(), max_size=30), min_size=6, max_size=6))
def test_any_text_can_be_shown(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    context = replace(CONTEXT, texts=[f"<{text}" for text in texts])
    page = page_of(report(context), tmp_path_factory.mktemp("page"))
    assert "bdi" in Reader(page).names and "\0" not in page


def test_a_single_kind_of_model_is_not_compared(tmp_path: Path) -> None:
    for only in (TEACHER, STUDENT):
        page = page_of(report(outcomes=[only]), tmp_path)
        assert "of its teacher" not in page and "minus teacher" not in page and "prediction is marked" not in page
        Reader(page)


def test_a_teacher_that_is_never_right_is_not_compared_with(tmp_path: Path) -> None:
    hopeless = replace(TEACHER, logits=np.eye(3, dtype=np.float32)[(GOLD + 1) % 3])
    assert "of its teacher" not in page_of(report(outcomes=[hopeless, STUDENT]), tmp_path)


def test_a_speedup_below_one_has_two_digits(tmp_path: Path) -> None:
    slow = replace(STUDENT, ms_per_text={"cpu": 18.0})
    assert "<b>0.44 ×</b>" in page_of(report(outcomes=[TEACHER, slow]), tmp_path)


def test_without_mistakes(tmp_path: Path) -> None:
    right = replace(STUDENT, logits=np.eye(3, dtype=np.float32)[GOLD])
    page = page_of(report(outcomes=[right]), tmp_path)
    assert "The distilled student made no mistakes." in page and "蒸馏后的学生没有分类错误。" in page


NEUTRAL = (
    r"ECE|macro-F1|LinearSVC|BERT-base|MB|GB|bert-base-chinese|fp32|titles|label_noise\.csv|bilstm|logits|Elsewhere"
)


def test_everything_on_the_page_is_in_the_chosen_language(tmp_path: Path) -> None:
    """What has no translation, such as settings, is marked as English (lang="en"); names and units are neutral."""
    checks = [Check("words", 0.5, 0.25, "odd", True), Check("classes", 0, 0, "fine", False)]
    full = report(
        replace(CONTEXT, timing=Text("epoch"), data={**CONTEXT.data, "set_aside": 3}),
        checks=checks,
        warnings=["odd"],
        decisions=["train.csv: GB18030"],
        label_noise_file="label_noise.csv",
        shipped=SHIPPED,
        usage=[Usage(Text("load it in Python"), "python -c 1")],
        linear=LinearResult(metrics.scores(GOLD, GOLD, CONTEXT.first_of_text, 3), 2.0),
        comparison=COMPARISON,
        missing=[Text("Not trained: {kind}. To train it: {command}", kind=Text("student alone"), command="x")],
    )
    for language, foreign in (("zh", "[A-Za-z]{2,}"), ("en", "[\u4e00-\u9fff]")):
        reader = Reader(page_of(full, tmp_path), language)
        left = [re.sub(NEUTRAL, "", text) for text in reader.of_no_language]
        assert not [text for text in left if re.search(foreign, text)]


def test_a_headline_says_how_fast_what_ships_is(tmp_path: Path) -> None:
    english, chinese = ("".join(Reader(page_of(report(shipped=SHIPPED), tmp_path), one).texts) for one in ("en", "zh"))
    assert "2,000 × as fast as BERT-base" in english and "100 × as fast as its teacher" in english
    assert "速度是 BERT-base 的 2,000 倍" in chinese and "速度是教师模型的 100 倍" in chinese
    assert "One thread of a processor, from raw text to label, in batches: the bundle 25.0 µs per text (512" in english
    assert "12 MBsize of the bundle; its teacher: 4 MB" in english.replace("\n", "")
    assert "as fast as its teacher on the CPU" not in english  # the tile of PyTorch's figure
    without_teacher = replace(SHIPPED, teacher="", is_bundle=False)
    english = "".join(Reader(page_of(report(shipped=without_teacher), tmp_path)).texts)
    assert "as fast as its teacher" not in english and "the student in PyTorch 25.0 µs per text" in english


def test_a_comparison_is_part_of_the_report(tmp_path: Path) -> None:
    page = page_of(report(comparison=COMPARISON), tmp_path)
    assert 'id="comparison"' in page and "bilstm, logits" in page and "Elsewhere." in page
    assert 'id="comparison"' not in page_of(report(), tmp_path)


def test_the_most_confident_mistakes_come_first() -> None:
    context = replace(CONTEXT, texts=list("abcdef"), labels=("x", "y", "z"))
    mistakes = confident_mistakes(STUDENT, TEACHER, context)
    assert [mistake.text for mistake in mistakes] == ["b", "f", "d"]
    confidence = metrics.softmax(STUDENT.logits, 2.0)[1].max()
    first = mistakes[0]
    assert (first.label, first.predicted, first.confidence) == ("y", "x", f"{100 * confidence:.0f}\u00a0%")
    assert [mistake.reference_is_correct for mistake in mistakes] == [True, False, False]


def test_mistaken_texts_are_listed_once_and_truncated() -> None:
    context = replace(CONTEXT, texts=["a", "长" * 999, "c", "d", "e", "长" * 999])
    mistakes = confident_mistakes(STUDENT, None, context)
    assert [mistake.text for mistake in mistakes] == ["长" * MAX_CHARACTERS + "…", "d"]


def test_the_diagram_has_the_bins_of_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 4, 500)
    probabilities = metrics.softmax(rng.normal(size=(500, 4)) * 3)
    points = reliability(probabilities, gold)
    error = (points.texts * np.abs(points.accuracy - points.confidence)).sum() / points.texts.sum()
    assert error == pytest.approx(metrics.expected_calibration_error(probabilities, gold))
    assert points.texts.sum() == 500 and (np.diff(points.confidence) > 0).all()


def test_more_is_better_on_the_diagonal_and_worse_off_it() -> None:
    *_, difference = confusion_matrices([TEACHER, STUDENT], GOLD, 3)
    assert difference.caption.startswith("distilled student minus teacher")
    assert [[cell.text for cell in line] for line in difference.cells] == [
        ["0", "0", "0"],
        ["+1", "−1", "0"],
        ["0", "0", "0"],
    ]
    assert [cell.css for cell in difference.cells[1]] == ["bad", "bad", ""]
    (student,) = confusion_matrices([STUDENT], GOLD, 3)
    assert [[cell.text for cell in line] for line in student.cells] == [
        ["1", "1", "0"],
        ["1", "1", "0"],
        ["0", "1", "1"],
    ]
    assert student.cells[0][0].share == 50


def test_only_the_most_mistaken_labels_are_shown_if_there_are_many(tmp_path: Path) -> None:
    gold = np.arange(40)
    logits = np.eye(40, dtype=np.float32)
    logits[[3, 39]] = logits[[39, 3]]
    model = outcome("student", logits.tolist())
    shown = shown_labels([model], gold, 40)
    assert len(shown) == MAX_LABELS and {3, 39} <= set(shown.tolist())
    context = replace(
        CONTEXT,
        texts=[str(number) for number in gold],
        gold=gold,
        first_of_text=np.ones(40, dtype=np.bool_),
        labels=tuple(f"l{number}" for number in gold),
    )
    assert "The 30 of 40 labels with the most mistakes." in page_of(report(context, outcomes=[model]), tmp_path)


def test_settings_are_flattened() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [{"e": 2}, {"e": 3}], "f": ()}}
    assert settings_sections(nested, more={"x": None}) == {
        "a": {"b.c": 1, "d 1.e": 2, "d 2.e": 3, "f": ""},
        "more": {"x": None},
    }


def test_the_first_seed_is_shown() -> None:
    second = replace(STUDENT, seed=2)
    assert first_seeds([STUDENT, second, TEACHER]) == [TEACHER, STUDENT]


def test_the_language_is_that_of_the_browser_until_it_is_switched(browser: Any, tmp_path: Path) -> None:
    page_of(report(shipped=SHIPPED), tmp_path)
    for locale, shown, other in (("zh-CN", "zh", "en"), ("de", "en", "zh")):
        context = browser.new_context(locale=locale, viewport={"width": 390, "height": 800})
        page = context.new_page()
        errors: list[Any] = []
        page.on("pageerror", lambda error: errors.append(error))  # noqa: B023, PLW0108
        page.on("console", lambda message: errors.append(message))  # noqa: B023, PLW0108
        # Not by its file:// address: there Chromium sometimes loses localStorage in a reload (9 of 668 under load).
        page.route("http://localhost/", lambda route: route.fulfill(path=tmp_path / "report.html"))
        page.goto("http://localhost/")
        titles = {"zh": "训练报告：titles", "en": "Report: titles"}
        for step, expected in (("first visit", shown), ("click", other), ("reload", other)):
            if step == "click":
                page.click("#language")
            elif step == "reload":
                page.reload()
            assert page.evaluate("document.documentElement.lang") == expected, (locale, step)
            assert page.inner_text("h1") == page.title() == titles[expected]
            assert page.inner_text("#language") == {"zh": "English", "en": "中文"}[expected]
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.evaluate("localStorage.setItem('language', 'fr')")
        page.reload()
        assert page.title() == titles[shown] and not errors
        context.close()
