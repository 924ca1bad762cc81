"""Run modes of the program for the benchmarks, each in a folder of its own."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SPLIT_SEED = 42  # the default of --seed, so that dev is that of the runs


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of a benchmark: paths are absolute, ``flags`` are those after ``--``, ``line`` is the command."""
    arguments = sys.argv[1:]
    separator = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:separator])
    for name, value in vars(options).items():
        if isinstance(value, Path):
            setattr(options, name, value.resolve())
    options.unlabeled = [path.resolve() for path in getattr(options, "unlabeled", ())]
    options.flags = arguments[separator + 1 :]
    options.line = f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(arguments)}".rstrip()
    return options


def write_data(folder: Path, splits: Mapping[str, Iterable[Mapping[str, Any]]]) -> Path:
    """Write a data folder: the rows of each split as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


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
