"""A job that is killed, or whose disk is full, at a system call continues when its command is repeated."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "fixtures" / "bundle"
QUICK = ["--stages", "predict", "--bundle", str(BUNDLE), "--formats", "jsonl", "--rows", "60"]
TRAINING = ["train_teacher", "label", "train_student", "export", "predict"]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not (shutil.which("cc") or shutil.which("gcc")),
    reason="injecting faults into system calls needs Linux and a C compiler",
)


def run(script: str, folder: Path, *flags: str) -> str:
    """Run a script of benchmarks/reliability; returns what it wrote as JSON."""
    results = folder / "results.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "reliability" / script), "--output", str(results), *flags]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return results.read_text("utf-8")


def test_killed_at_every_kind_of_call(tmp_path: Path) -> None:
    figures = json.loads(run("kills.py", tmp_path, *QUICK, "--distinct", "--every", "3", "--random", "0"))
    calls = figures["stages"]["predict"]["at calls"]
    assert calls["kills"] == sum(calls["calls"].values()) > 20 and {"write", "rename", "unlink"} < set(calls["calls"])


def test_disk_errors(tmp_path: Path) -> None:
    faults = ["full from here on", "input/output error"]
    figures = json.loads(run("disk_full.py", tmp_path, *QUICK, "--no-disks", "--every", "13", "--faults", *faults))
    assert all(figures["stages"]["predict"][fault]["an error"] > 5 for fault in faults)


@pytest.mark.slow
def test_training_and_prediction_are_killed(tmp_path: Path) -> None:
    figures = json.loads(run("kills.py", tmp_path, "--stages", *TRAINING, "--every", "11", "--random", "20"))
    assert set(figures["stages"]) == set(TRAINING) and figures["kills"] > 100


@pytest.mark.slow
def test_the_disk_is_full_while_training(tmp_path: Path) -> None:
    figures = json.loads(run("disk_full.py", tmp_path, "--stages", *TRAINING, "--no-disks", "--every", "30"))
    assert set(figures["stages"]) == set(TRAINING)
