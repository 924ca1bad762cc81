"""A run whose labels are paths, from the data to the bundle, with tiny real models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import on_data, output_of, titles

from distill import load_student
from distill.cli import main
from distill.runtime import load
from distill.storage.fingerprints import read_provenance

PATHS = {"体育": "生活##体育", "科技": "生活##科技", "财经": "经济##财经"}


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory, tiny_flags: list[str]) -> list[str]:
    folder = tmp_path_factory.mktemp("data") / "paths"
    folder.mkdir()
    for name, start, stop in (("train", 0, 90), ("test", 90, 120)):
        rows = "".join(f"{text}\t{PATHS[label]}\n" for text, label in titles(start, stop))
        (folder / f"{name}.tsv").write_text(f"text\tlabel\n{rows}", encoding="utf-8")
    return [*on_data(tiny_flags, folder), "--level_weight", "0.2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    root = tmp_path_factory.mktemp("runs") / "paths"
    assert main([*flags, "--run", str(root), "--seeds", "2"]) == 0
    return root


def test_the_report_measures_every_level(run: Path) -> None:
    report = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    note = "labels are paths separated by ##: 2 classes on level 1, 3 on level 2"
    assert note in report["decisions"]
    for row in (*report["rows"], report["linear_svc"]):
        assert row["accuracy"] <= row["accuracy_level_1"] <= 1 and "macro_f1_level_1" in row
        assert row["accuracy_level_1"] > 0.7, row
        assert "mistakes_within_parent" in row
    markdown = (run / "report" / "report.md").read_text(encoding="utf-8")
    assert "| accuracy, level 1 | macro-F1, level 1 | mistakes with the right parent |" in markdown
    assert "share of the mistakes whose label has the same parent as the right label" in markdown and note in markdown
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert ">accuracy, level 1<" in page and ">准确率（第 1 级）<" in page and ">宏平均 F1（第 1 级）<" in page


@pytest.mark.parametrize("name", ["teacher", "student_alone", "student"])
def test_every_model_learns_the_levels(run: Path, name: str) -> None:
    lines = (run / name / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert all("levels" in json.loads(line)["train_loss"] for line in lines)
    assert (read_provenance(run / name) or {})["levels"] == {"separator": "##", "weight": 0.2}


def test_labels_are_whole_paths_everywhere(run: Path) -> None:
    texts = [text for text, _ in titles(0, 30)]
    bundle, student = load(run / "bundle"), load_student(run / "student")
    assert tuple(bundle.labels) == tuple(student.labels) == tuple(sorted(PATHS.values()))
    assert list(bundle.predict(texts)) == list(student.predict(texts))
    assert set(bundle.predict(texts)) <= set(PATHS.values())


def test_models_are_kept_until_the_weight_changes(
    run: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    arguments = [*flags, "--mode", "train_student", "--a", "1", "--T", "0", "--run", str(copy)]
    assert "student_alone: kept" in output_of(capsys, arguments)
    assert "student_alone: trained again, levels changed" in output_of(capsys, [*arguments, "--level_weight", "2"])
    said = output_of(capsys, [*arguments, "--level_weight", "0"])
    assert "student_alone: trained again, levels changed" in said
    flat = load_student(copy / "student_alone")
    levels = load_student(run / "student_alone")
    texts = [text for text, _ in titles(0, 120)]
    assert not np.array_equal(flat.predict_proba(texts), levels.predict_proba(texts))


def test_a_separator_that_no_label_has_is_refused(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*flags, "--mode", "train_teacher", "--run", str(tmp_path / "run"), "--hierarchy", "/"]
    assert "--hierarchy /: separated at '/', the labels have no level" in output_of(capsys, arguments, code=2)


def test_a_weight_without_levels_is_said_to_be_unused(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*tiny_flags, "--mode", "train_student", "--a", "1", "--T", "0", "--student_epochs", "1"]
    said = output_of(capsys, [*arguments, "--run", str(tmp_path / "run"), "--level_weight", "0.2"])
    assert "--level_weight is not used" in said
