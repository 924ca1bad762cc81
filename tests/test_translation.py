"""The Chinese texts of report.html and compare.html: complete, with the same placeholders, and none left over."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

from distill.reporting import comparison_tables, plots, selective, speed, summary
from distill.reporting.results import TITLES
from distill.reporting.tables import Column
from distill.translation import DICTIONARY, Listed, Text, translations

PACKAGE = Path(summary.__file__).parent
SOURCES = [*PACKAGE.glob("*.py"), *(PACKAGE.parent / "commands").rglob("*.py"), PACKAGE.parent / "data" / "checks.py"]


def constants(node: ast.expr) -> set[str]:
    """The strings that an expression can be, as far as it is written out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        return constants(node.body) | constants(node.orelse)
    return set()


def texts_in_code() -> set[str]:
    """The English texts that are written out in calls of ``Text`` and in the templates."""
    calls = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    of_code = [
        constants(node.args[0])
        for node in calls
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Text" and node.args
    ]
    of_templates = (re.findall(r'\bt\("([^"]+)"', path.read_text("utf-8")) for path in PACKAGE.glob("*.jinja"))
    return set().union(*of_code, *of_templates)


def texts_of_columns() -> set[str]:
    shown: list[tuple[Column, ...]] = [  # type: ignore[type-arg]
        summary.SCORES,
        summary.MULTI_LABEL_SCORES,
        summary.OTHERS,
        summary.GPU_COLUMNS,
        (summary.SEEDS,),
        speed.SHIPPED_COLUMNS,
        comparison_tables.COLUMNS,
        *map(comparison_tables.multi_label_columns, comparison_tables.LABEL_SET_SCORES),
        comparison_tables.LEFT_OUT_CLASS_COLUMNS,
        selective.TARGET_COLUMNS,
        selective.CASCADE_COLUMNS,
    ]
    texts = (text for columns in shown for column in columns for text in (column.title, column.meaning) if text)
    return {getattr(text, "template", text) for text in texts}


DRAWING = ("plots.py", "report.py", "accuracy_speed_plot.py", "selective.py")
IN_TABLES = {f"teacher, {form}" for form in ("fp32", "bf16", "PyTorch")} | {"student, bundle", "student, PyTorch"}
MEASURED = {
    text
    for name in ("accuracy", "agreement", "micro-F1")
    for text in (name, f"Dev {name}", f"dev {name}", f"{name} on test")
}
MEASURED |= {"Dev cross-entropy"}
SAME = {"p", "ECE", "BERT-base in {precision}", "{model} {area:.4f}"}  # as in English, or nearly


def test_every_text_has_a_translation() -> None:
    wanted = (
        texts_in_code() | texts_of_columns() | set(TITLES.values()) | set(plots.CURVES.values()) | IN_TABLES | MEASURED
    )
    assert len(wanted) > 80
    missing = sorted(wanted - translations().keys() - SAME)
    assert not missing, f"add to {DICTIONARY}: {missing}"


def test_translations_have_the_placeholders_of_their_texts() -> None:
    for english, chinese in translations().items():
        fields = [
            sorted({(name, spec) for _, name, spec, _ in string.Formatter().parse(text) if name})
            for text in (english, chinese)
        ]
        assert fields[0] == fields[1], english
        assert re.search("[\u4e00-\u9fff]", chinese) or english in SAME | {"BERT-base"}, english


def test_no_translation_is_left_over() -> None:
    drawn = "".join((PACKAGE / name).read_text("utf-8") for name in DRAWING)
    known = texts_in_code() | texts_of_columns() | IN_TABLES | MEASURED | set(plots.CURVES.values())
    assert not [text for text in translations().keys() - known if f'"{text}"' not in drawn]


def test_a_text_is_its_english_text() -> None:
    text = Text("{model}, seed {seed}", model=Text("teacher"), seed=3)
    assert text == f"{text}" == "teacher, seed 3" and text.chinese == "教师模型，随机种子 3"
    assert Text("a {brace").chinese == Text("a {brace") == "a {brace"
    assert Listed([Text("teacher"), "<x>"], ", ", "、").chinese == "教师模型、<x>"


def test_texts_are_escaped_in_both_languages() -> None:
    shown = Text("{model}, seed {seed}", model=Text("teacher"), seed="<b>").__html__()
    assert shown == (
        '<span class="en" lang="en">teacher, seed &lt;b&gt;</span>'
        '<span class="zh" lang="zh">教师模型，随机种子 &lt;b&gt;</span>'
    )
    assert Text("<i>").__html__() == "&lt;i&gt;"


@pytest.mark.parametrize("english", ["epoch", "accuracy on test"])
def test_a_figure_has_its_texts_in_both_languages(english: str) -> None:
    with plots.new_figure(1, 2, 2) as (figure, (axes,)):
        axes.set_xlabel(english)
        drawn = plots.svg(figure)
    assert re.search(rf'<text class="en" lang="en" [^>]*>{english}</text><text class="zh" lang="zh" ', drawn)
    assert f">{Text(english).chinese}</text>" in drawn
