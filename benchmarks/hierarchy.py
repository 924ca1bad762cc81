"""Measure what the levels above labels add, on a data set whose labels get made-up parents: declared synthetic.

python benchmarks/hierarchy.py --data ../shared/data/headlines15

Every label NAME becomes PARENT##NAME, with the parents below. One run learns the levels (--level_weight 0.2), another
one the labels alone (default flags); both have their own teacher and students with the same seeds. Finished stages are
kept in --out. Flags after ``--`` are passed to every command. Writes benchmarks/hierarchy/NAME.json and .md, NAME being
that of the data.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish, shown  # noqa: E402
from run_mode import SPLIT_SEED, command, derive_data, derived_parser, note_on, parse, report_of  # noqa: E402

from distill.data import Example  # noqa: E402
from distill.data.hierarchy import SEPARATOR  # noqa: E402
from distill.reporting.results import TITLES  # noqa: E402

PARENTS = {
    "culture": ("news_story", "news_culture", "news_edu"),
    "leisure": ("news_entertainment", "news_sports", "news_game", "news_travel"),
    "money": ("news_finance", "stock", "news_house", "news_agriculture"),
    "technology": ("news_car", "news_tech"),
    "politics": ("news_military", "news_world"),
}
PATHS = {label: f"{parent}{SEPARATOR}{label}" for parent, labels in PARENTS.items() for label in labels}
RUNS = {"levels": ("--level_weight", "0.2"), "labels alone": ()}  # flags by the name of the run
FIGURES = ("accuracy", "macro_f1", "accuracy_level_1", "mistakes_within_parent")


def with_parents(examples: Sequence[Example], labels: Sequence[str], limit: int) -> list[dict[str, str]]:
    """Rows with paths as labels, at most ``limit`` of them; 0: all."""
    if 0 < limit < len(examples):
        examples = random.Random(SPLIT_SEED).sample(examples, limit)
    return [{"text": example.text, "label": PATHS[labels[example.label]]} for example in examples]


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
    return [shown(row[figure], row.get(f"{figure}_sd")) for figure in FIGURES]


def main() -> None:
    """Write the data, train and evaluate the models of both runs, and write the table."""
    options = parse(derived_parser(__doc__, "runs/hierarchy", (0, 0, 0)))
    name = derive_data(options, with_parents)
    reports = {}
    for run, flags in RUNS.items():
        folder = options.out / run.replace(" ", "_")
        command(folder, "all", options, *flags)
        reports[run] = report_of(folder)
    counts = reports["levels"]["data"]
    rows = {run: {"rows": report["rows"], "linear_svc": report["linear_svc"]} for run, report in reports.items()}
    publish(
        HERE / "hierarchy" / name,
        table_of(reports),
        note_on(counts, options),
        {"command": options.line, "runs": rows, "data": counts},
    )


if __name__ == "__main__":
    main()
