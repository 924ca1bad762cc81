"""Real data, skipped where they are absent, and real weights, marked slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distill.config import DataSettings
from distill.data import load

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the benchmark data (../shared/data) are absent")


@needs_shared
def test_tnews5_has_the_known_leaks() -> None:
    data = load(DataSettings(data=str(SHARED / "tnews5")), seed=42)
    assert data.labels == ("car", "culture", "edu", "game", "sports")
    assert data.counts["train_rows_read"] == 15_000 and data.counts["test"] == 3_599
    train = {e.id for e in data.train} | {e.id for e in data.dev}
    assert not train & {e.id for e in data.test}
    assert data.counts["leaks"] > 343  # rows; 343 test texts, some of them several times in train
    assert data.counts["conflicts"] > 0 and data.counts["duplicates"] > 0


@needs_shared
def test_headlines15_reads_clues_lines() -> None:
    data = load(DataSettings(data=str(SHARED / "headlines15")), seed=42)
    assert len(data.labels) == 15 and data.labels[3] == "news_sports"
    assert data.counts["leaks"] == data.counts["conflicts"] == 0 and data.counts["test"] == 4_000


@pytest.mark.slow
def test_the_bundled_teacher_learns_the_sample(tmp_path: Path) -> None:
    """The command as a user types it, in its own process: bundled weights and the 300 headlines of data/sample."""
    flags = ["--data", "data/sample", "--teacher_epochs", "4", "--student_epochs", "20", "--student_batch", "16"]
    few_general_texts = ["--general_words", "3000", "--general_sentences", "3000", "--dictionary", "3000"]
    command = [sys.executable, "distill.py", *flags, *few_general_texts, "--run", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    rows = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["rows"]
    accuracy = {row["name"]: row["accuracy"] for row in rows}
    assert accuracy["teacher"] > 0.8 and accuracy["student"] > 0.5
