"""The figures of the levels above labels that are paths, in every form of the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COUNTS

from distill.data.examples import ACCURACY, MICRO_F1
from distill.data.hierarchy import find_hierarchy
from distill.reporting.report import write
from distill.reporting.results import EvaluationContext, Outcome
from distill.reporting.summary import Report, model_scores, summarise

LABELS = ("体育##篮球", "体育##足球", "财经##股票")
CONTEXT = EvaluationContext(
    texts=["一", "二", "三", "四"],
    gold=np.array([0, 1, 2, 2]),
    first_of_text=np.ones(4, np.bool_),
    labels=LABELS,
    data=dict.fromkeys(COUNTS, 7),
    settings={"run": {}},
    timing="Time: …",
    hierarchy=find_hierarchy(LABELS),
)
SETS = replace(CONTEXT, gold=np.eye(3, dtype=bool)[CONTEXT.gold], measured=MICRO_F1)
HISTORY = [{"epoch": epoch, "dev_accuracy": 0.5, "dev_loss": 0.7} for epoch in (1, 2)]


def outcome(predicted: list[int], seed: int = 1, **more: Any) -> Outcome:
    logits = 4 * np.eye(3, dtype=np.float32)[predicted] - 2
    return Outcome("student", seed, logits, 1000, 4_000_000, {"cpu": 1.0}, HISTORY, **more)


def test_figures_by_hand() -> None:
    (row,) = model_scores(CONTEXT, [outcome([1, 1, 1, 2]), outcome([0, 0, 2, 2], 2)])
    figures = row.to_json()
    assert figures["accuracy"] == 0.625 and figures["accuracy_level_1"] == 0.875
    assert figures["mistakes_within_parent"] == 0.75 and "macro_f1_level_1_sd" in figures
    (row,) = model_scores(CONTEXT, [outcome([0, 1, 2, 2])])
    assert row.to_json()["mistakes_within_parent"] is None


@pytest.mark.parametrize(
    ("context", "more", "titles"),
    [
        (CONTEXT, {}, ["accuracy, level 1", "macro-F1, level 1", "mistakes with the right parent"]),
        (SETS, {"thresholds": (0.5, 0.5, 0.5)}, ["micro-F1, level 1", "macro-F1, level 1"]),
    ],
)
def test_every_form_shows_them(
    context: EvaluationContext, more: dict[str, Any], titles: list[str], tmp_path: Path
) -> None:
    report = Report("paths", context, [outcome([1, 1, 1, 2], **more)], versions={})
    terminal, files = write(report, tmp_path)
    markdown, page = (path.read_text("utf-8") for path in files[1:3])
    for title in titles:
        assert title in terminal and f"| {title} |" in markdown and f">{title}<" in page
    assert ">宏平均 F1（第 1 级）</span>" in page
    name = "accuracy" if context.measured == ACCURACY else "micro_f1"
    assert json.loads(files[0].read_text("utf-8"))["rows"][0][f"{name}_level_1"] == 0.75


def test_without_a_hierarchy_there_are_none() -> None:
    summary = summarise(Report("titles", replace(CONTEXT, hierarchy=None), [outcome([1, 1, 1, 2])], versions={}))
    assert not [title for title in summary.table[0] if "level" in title or "parent" in title]
    assert not [key for key in summary.rows[0].to_json() if "level" in key or "parent" in key]
