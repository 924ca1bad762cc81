"""The accuracy on the levels above labels that are paths, in a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_comparison import result
from test_levels_in_report import CONTEXT, SETS

from distill.reporting.comparison import write
from distill.reporting.comparison_record import Comparison, read_record, record_of
from distill.reporting.results import EvaluationContext

PREDICTED = [[1, 1, 1, 2], [0, 0, 2, 2]]  # right on level 1: three of four, all


@pytest.mark.parametrize(("context", "score"), [(CONTEXT, "accuracy"), (SETS, "micro-F1")])
def test_every_form_shows_them(context: EvaluationContext, score: str, tmp_path: Path) -> None:
    predicted = np.array(PREDICTED) if score == "accuracy" else np.eye(3, dtype=bool)[PREDICTED]
    made = Comparison(context, [result("bilstm, logits", "logits", "bilstm", *predicted.tolist())])
    _, (file, markdown, page, _) = write(made, tmp_path)
    row = json.loads(file.read_text("utf-8"))["rows"][0]["levels"]
    name = score.replace("-", "_").lower()
    assert row[f"{name}_level_1"] == pytest.approx(0.875) and row[f"{name}_level_1_sd"] == pytest.approx(0.25 / 2**0.5)
    assert (row.get("mistakes_within_parent") == 0.75) == (score == "accuracy")
    header = markdown.read_text("utf-8").splitlines()[2]
    assert header.startswith(f"|  | # | {score} | {score}, level 1 | kept |")
    assert "| 0.8750 ±0.1768 |" in markdown.read_text("utf-8")
    assert f">{score}, level 1<" in page.read_text("utf-8") and "（第 1 级）<" in page.read_text("utf-8")
    assert read_record(file).rows == record_of(made).rows
