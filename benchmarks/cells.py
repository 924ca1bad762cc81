"""Compare the cells and widths of the recurrent student on dev: accuracy, and microseconds per text of the bundle.

python benchmarks/cells.py --data ../shared/data/tnews5 --unlabeled ../shared/data/unlabeled_headlines.txt

All students of a table have the same teacher (that of --run, or one that is trained first), texts, seeds and flags.
Nothing reads the test set. Times are medians of interleaved rounds over the dev texts, from raw strings to labels, in
batches of 256 on one thread; training is the sum of the students' own seconds, without the teacher's answers.
Everything else is a command of the program. Finished students are kept in --out; the teacher's answers are computed
once. Flags after ``--`` are passed to every command. Writes benchmarks/cells/NAME.md and .json, NAME being that of the
data, with "-unlabelled" if there are unlabelled texts.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish  # noqa: E402
from run_mode import SPLIT_SEED, command, parse  # noqa: E402

from distill.commands.saved_models import history, train_seconds  # noqa: E402
from distill.config import DataSettings  # noqa: E402
from distill.data import load  # noqa: E402
from distill.evaluation.timing import Workload, interleaved_rounds, processor  # noqa: E402
from distill.runtime import load as load_bundle  # noqa: E402

STUDENTS = ("lstm-128", "mingru-128", "mingru-256", "sru-128", "sru-256", "qrnn-128", "qrnn-256")  # cell-units
BATCH, ROUNDS = 256, 9


def measure(name: str, teacher: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train the students of one cell and width, export the first, and return the figures."""
    run, first, (cell, units) = options.out / name, options.out / options.students[0], name.split("-")
    if not run.exists() and run != first:
        shutil.copytree(first / "cache", run / "cache")  # the teacher's answers
    flags = ("--teacher", teacher, "--student", "bilstm", "--cell", cell, "--student_hidden", units)
    command(run, "train_student", options, *flags)
    command(run, "export", options, *flags)
    folders = [run / "student", *(run / f"student.{index}" for index in range(2, options.seeds + 1))]
    return {
        "name": name,
        "cell": cell,
        "units": int(units),
        "dev": [max(evaluation["dev_accuracy"] for evaluation in history(folder)) for folder in folders],  # it is kept
        "seconds": round(sum(map(train_seconds, folders))),
    }


def in_batches(bundle: Path) -> Any:
    """A function that labels texts with a bundle on one thread, ``BATCH`` at a time."""
    student = load_bundle(bundle)
    return lambda texts: [student.predict(texts[first : first + BATCH]) for first in range(0, len(texts), BATCH)]


def table_of(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Format the rows."""
    table = [["cell", "units", "dev accuracy, mean ± sd", "each seed", "µs per text", "training, s"]]
    for row in rows:
        sd = f" ± {statistics.stdev(row['dev']):.4f}" if len(row["dev"]) > 1 else ""
        each = ", ".join(f"{accuracy:.4f}" for accuracy in row["dev"])
        cells = [row["cell"], str(row["units"]), f"{statistics.mean(row['dev']):.4f}{sd}", each]
        table.append([*cells, f"{row['us']:.1f}", f"{row['seconds']:,}"])
    return table


def main() -> None:
    """Train the students, time their bundles and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tnews5"), help="data folder")
    parser.add_argument("--unlabeled", type=Path, nargs="*", default=[], help="files of unlabelled texts")
    parser.add_argument("--run", type=Path, help="existing run on the same data with a trained teacher")
    parser.add_argument("--out", type=Path, default=Path("runs/cells"), help="folder of the runs")
    parser.add_argument("--students", nargs="+", default=STUDENTS, help="cells and units, as in sru-128")
    parser.add_argument("--seeds", type=int, default=3, help="students of each cell and width")
    options = parse(parser)
    if options.run is None:
        options.run = options.out / "teacher"
        command(options.run, "train_teacher", options)
    rows = [measure(name, options.run / "teacher", options) for name in options.students]
    data = load(DataSettings(data=str(options.data)), SPLIT_SEED)
    texts = [example.text for example in data.dev]
    tasks = {name: Workload(in_batches(options.out / name / "bundle"), texts, ROUNDS) for name in options.students}
    for row, seconds in zip(rows, interleaved_rounds(tasks).values(), strict=True):
        row["us"] = 1e6 * statistics.median(seconds)
    note = f"{data.counts['train']:,} train and {len(texts):,} dev texts, {processor()}, one thread. {options.line}"
    figures = {"command": options.line, "data": options.data.name, "processor": processor(), "rows": rows}
    publish(
        HERE / "cells" / (options.data.name + "-unlabelled" * bool(options.unlabeled)), table_of(rows), note, figures
    )


if __name__ == "__main__":
    main()
