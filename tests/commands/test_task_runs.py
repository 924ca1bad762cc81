"""A run of several tasks, from the data to the reports, with tiny real models."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import on_data, titles

from distill.cli import main

MOODS = {"好评": "非常喜欢", "差评": "太糟糕了"}


def rows_of(start: int, stop: int) -> list[tuple[str, str, str]]:
    """Text, topic and mood; every fifth text has no topic, every third none of the moods."""
    rows = []
    for number, (title, topic) in enumerate(titles(start, stop)):
        mood = list(MOODS)[number % 2]
        rows.append((title + MOODS[mood], topic if number % 5 else "", mood if number % 3 else ""))
    return rows


def write(path: Path, rows: list[tuple[str, str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "topic", "mood"])
        table.writerows(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tasks"
    folder.mkdir()
    write(folder / "train.csv", rows_of(0, 90))
    write(folder / "test.csv", rows_of(90, 120))
    return folder


@pytest.fixture(scope="module")
def flags(folder: Path, tiny_flags: list[str]) -> list[str]:
    return [*on_data(tiny_flags, folder), "--label_column", "topic,mood"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    root = tmp_path_factory.mktemp("runs") / "tasks"
    assert main([*flags, "--run", str(root)]) == 0
    return root


def test_every_task_has_a_report(run: Path) -> None:
    for task, labels in (("topic", 3), ("mood", 2)):
        report = json.loads((run / "tasks" / task / "report" / "report.json").read_text(encoding="utf-8"))
        assert report["measured"] == "accuracy" and len(report["labels"]) == labels
