"""Run modes of the program for the benchmarks, each in a folder of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
SPLIT_SEED = 42  # the default of --seed, so that dev is that of the runs


def command(run: Path, mode: str, options: argparse.Namespace, *flags: object) -> float:
    """Run one mode of the program and return its duration in seconds; the output goes to the run's folder.

    Of the options, ``data``, ``unlabeled``, ``seeds`` and ``flags`` are passed on.
    """
    run.mkdir(parents=True, exist_ok=True)
    unlabelled = [flag for name in options.unlabeled for flag in ("--unlabeled", name)]
    arguments = ["--mode", mode, "--data", options.data, "--run", run, "--seeds", options.seeds, *unlabelled, *flags]
    started = time.perf_counter()
    with (run / "output.txt").open("a", encoding="utf-8") as output:
        whole = [sys.executable, str(ROOT / "distill.py"), *map(str, arguments), *options.flags]
        subprocess.run(whole, check=True, stdout=output, stderr=output, cwd=ROOT)  # noqa: S603 (our own command)
    return time.perf_counter() - started
