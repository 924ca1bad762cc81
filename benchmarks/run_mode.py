"""Run modes of the program for the benchmarks, each in a folder of its own."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from distill.config import DataSettings  # noqa: E402
from distill.data import Example, load  # noqa: E402
from distill.evaluation.timing import processor  # noqa: E402

SPLITS = ("train", "dev", "test")
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
    options.line = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments])
    return options


def derived_parser(description: str | None, out: str, sizes: tuple[int, int, int]) -> argparse.ArgumentParser:
    """Options of a benchmark on data made from another data set; ``sizes`` are those of train, dev and test."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/headlines15"), help="data folder")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the data and the runs")
    parser.add_argument("--sizes", type=int, nargs=3, default=sizes, help="texts of train, dev and test, at most")
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind")
    return parser


def derive_data(options: argparse.Namespace, make: Callable[[Sequence[Example], Sequence[str], int], list[Any]]) -> str:
    """Make the data of a benchmark, which ``options.data`` then names; returns the name of the data set they are from.

    ``make`` turns the examples of a split, the names of the classes and the size wanted into rows.
    """
    name, source = options.data.name, load(DataSettings(data=str(options.data)), SPLIT_SEED)
    splits = zip(SPLITS, options.sizes, strict=True)
    rows = {split: make(getattr(source, split), source.labels, size) for split, size in splits}
    options.data = write_data(options.out / "data", rows)
    return str(name)


def report_of(run: Path) -> dict[str, Any]:
    """The report of a run on test."""
    report: dict[str, Any] = json.loads((run / "report" / "report.json").read_text("utf-8"))
    return report


def note_on(counts: Mapping[str, int], options: argparse.Namespace) -> str:
    """The sizes of the data, the processor and the command, for the note below a table."""
    return f"{', '.join(f'{counts[split]:,} {split}' for split in SPLITS)} texts. {processor()}. {options.line}"


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
