"""Whatever texts and bundles hold, the kernels make no invalid memory access, undefined operation or data race."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "reliability"
sys.path.insert(0, str(SCRIPTS))

from random_bundles import all_bundles  # noqa: E402

TEXTS, BUNDLES = 5_000, 300  # the script's own numbers take a quarter of an hour


def has_sanitizers() -> bool:
    """Whether gcc finds the libraries; it prints the bare name of one that it does not find."""
    if not shutil.which("gcc") or not shutil.which("setarch"):
        return False
    commands = [["gcc", f"-print-file-name=lib{name}.so"] for name in ("asan", "ubsan", "tsan")]
    printed = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands]
    return all(Path(path.strip()).is_absolute() for path in printed)


def results_of(command: list[str], out: Path) -> Any:
    """What a script of benchmarks/reliability wrote, which must succeed."""
    script, *flags = command
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), "--out", str(out), *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text("utf-8"))


NEEDS_SANITIZERS = pytest.mark.skipif(
    not has_sanitizers(), reason="needs gcc with libasan, libubsan and libtsan, and setarch"
)


@pytest.mark.slow
@NEEDS_SANITIZERS
def test_the_sanitizers_find_nothing_in_random_files(tmp_path: Path) -> None:
    results = results_of(["rows.py", "--files", "200"], tmp_path / "rows.json")
    assert results["findings"] == [] and results["files"] == 200 and results["rows"] > 4000


@pytest.mark.slow
@NEEDS_SANITIZERS
@pytest.mark.parametrize("build", ["memory", "memory, sixteen lanes", "threads"])
def test_the_sanitizers_find_nothing(build: str, tmp_path: Path) -> None:
    out = tmp_path / "kernels.json"
    numbers = ["--texts", str(TEXTS), "--bundles", str(BUNDLES)]
    counts = results_of(["kernels.py", "--build", build, *numbers], out)["builds"][build]
    assert counts["findings"] == [] and counts["texts through a network"] == len(all_bundles()) * TEXTS
    assert counts["bundles refused"] + counts["bundles accepted"] == BUNDLES and counts["bundles accepted"] > 10
