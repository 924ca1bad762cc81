"""Measure what the levels above labels add, on a data set whose labels get made-up parents: declared synthetic.

python benchmarks/hierarchy.py --data ../shared/data/headlines15

Every label NAME becomes PARENT##NAME, with the parents below. One run learns the levels (default flags), another one
the labels alone (--level_weight 0); both have their own teacher and students with the same seeds. Finished stages are
kept in --out. Flags after ``--`` are passed to every command. Writes benchmarks/hierarchy/NAME.json and .md, NAME being
that of the data.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish  # noqa: E402
from run_mode import SPLIT_SEED, command  # noqa: E402

from distill.config import DataSettings  # noqa: E402
from distill.data import Dataset, load  # noqa: E402
from distill.data.hierarchy import SEPARATOR  # noqa: E402
from distill.evaluation.timing import processor  # noqa: E402

PARENTS = {
    "culture": ("news_story", "news_culture", "news_edu"),
    "leisure": ("news_entertainment", "news_sports", "news_game", "news_travel"),
    "money": ("news_finance", "stock", "news_house", "news_agriculture"),
    "technology": ("news_car", "news_tech"),
    "politics": ("news_military", "news_world"),
}
PATHS = {label: f"{parent}{SEPARATOR}{label}" for parent, labels in PARENTS.items() for label in labels}
RUNS = {"levels": (), "labels alone": ("--level_weight", "0")}  # flags by the name of the run
TITLES = {"teacher": "teacher", "student_alone": "student alone", "student": "distilled student"}
FIGURES = ("accuracy", "macro_f1", "accuracy_level_1", "mistakes_within_parent")


def write_data(folder: Path, data: Dataset, limits: dict[str, int]) -> Path:
    """Write the splits as JSON lines with paths as labels, at most ``limits`` texts of each; 0: all."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, limit in limits.items():
        examples = list(getattr(data, split))
        if limit:
            examples = random.Random(SPLIT_SEED).sample(examples, min(limit, len(examples)))
        rows = ({"text": example.text, "label": PATHS[data.labels[example.label]]} for example in examples)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def table_of(reports: dict[str, Any]) -> list[list[str]]:
    """The rows of both reports, one below the other, the linear baseline first."""
    table = [["model", "learns", "accuracy", "macro-F1", "accuracy of the parent", "mistakes with the right parent"]]
    linear = next(iter(reports.values()))["linear_svc"]
    table.append(["LinearSVC", "labels alone", *_cells(linear)])
    for name, title in TITLES.items():
        for run, report in reports.items():
            table += [[title, run, *_cells(row)] for row in report["rows"] if row["name"] == name]
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    return [_cell(row[figure], row.get(f"{figure}_sd")) for figure in FIGURES]


def _cell(value: float | None, sd: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if sd is None else f"{value:.4f} ± {sd:.4f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the data, train and evaluate the models of both runs, and write the table."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    separator = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/headlines15"), help="data folder")
    parser.add_argument("--out", type=Path, default=Path("runs/hierarchy"), help="folder of the data and the runs")
    parser.add_argument("--sizes", type=int, nargs=3, default=(0, 0, 0), help="texts of train, dev and test; 0: all")
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind")
    options = parser.parse_args(arguments[:separator])
    options.unlabeled, options.out = [], options.out.resolve()
    source = load(DataSettings(data=str(options.data)), SPLIT_SEED)
    name, limits = options.data.name, dict(zip(("train", "dev", "test"), options.sizes, strict=True))
    options.data = write_data(options.out / "data", source, limits)
    reports, given = {}, arguments[separator + 1 :]
    for run, flags in RUNS.items():
        folder = options.out / run.replace(" ", "_")
        options.flags = [*given, *flags]
        command(folder, "all", options)
        reports[run] = json.loads((folder / "report" / "report.json").read_text("utf-8"))
    counts, line = reports["levels"]["data"], f"python benchmarks/hierarchy.py {' '.join(arguments)}".rstrip()
    note = f"{counts['train']:,} train, {counts['dev']:,} dev and {counts['test']:,} test texts. {processor()}. {line}"
    rows = {run: {"rows": report["rows"], "linear_svc": report["linear_svc"]} for run, report in reports.items()}
    publish(HERE / "hierarchy" / name, table_of(reports), note, {"command": line, "runs": rows, "data": counts})


if __name__ == "__main__":
    main()
