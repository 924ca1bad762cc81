"""Measure a run on texts with several labels, made from a data set whose texts have one: declared synthetic.

python benchmarks/multi_label.py --data ../shared/data/headlines15

Two headlines of different classes are joined into one text with both labels; some stay single. Train, dev and test are
made from the headlines of train, dev and test, each used once. Teacher, student alone and distilled students have
default flags; the baseline is one LinearSVC per class. Finished stages are kept in --out. Flags after ``--`` are passed
to every command. Writes benchmarks/multi_label/NAME.json and .md, NAME being that of the data.
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
from distill.reporting.results import TITLES  # noqa: E402

SINGLE_SHARE = 1 / 3  # of the texts
FIGURES = ("micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision")


def label_sets(examples: Sequence[Example], labels: Sequence[str], count: int) -> list[dict[str, Any]]:
    """``count`` texts, each of one headline or of two with different labels; no headline is used twice."""
    drawn = random.Random(SPLIT_SEED)
    left = drawn.sample(list(examples), len(examples))
    rows = []
    while left and len(rows) < count:
        first = left.pop()
        second = next((index for index in range(len(left) - 1, -1, -1) if left[index].label != first.label), None)
        parts = [first] if second is None or drawn.random() < SINGLE_SHARE else [first, left.pop(second)]
        names = [labels[index] for part in parts for index in part.classes]
        rows.append({"text": "，".join(part.text for part in parts), "label": names})
    return rows


def table_of(rows: Sequence[dict[str, Any]], linear: dict[str, Any]) -> list[list[str]]:
    """Format the rows of a report, the linear baseline first."""
    table = [["model", "micro-F1", "of the teacher's", "macro-F1", "all labels right", "mAP", "seeds"]]
    teacher = next(row for row in rows if row["name"] == "teacher")["micro_f1"]
    for row in ({"name": "one LinearSVC per class", "seeds": 1, **linear}, *rows):
        others = [shown(row.get(figure)) for figure in FIGURES[1:]]
        kept = f"{100 * row['micro_f1'] / teacher:.1f} %"
        name = str(TITLES.get(row["name"], row["name"]))
        table.append([name, shown(row["micro_f1"], row.get("micro_f1_sd")), kept, *others, str(row["seeds"])])
    return table


def main() -> None:
    """Make the data, train and evaluate the models, and write the table."""
    options = parse(derived_parser(__doc__, "runs/multi_label", (6000, 1000, 1500)))
    name = derive_data(options, label_sets)
    command(options.out / "run", "all", options)
    report = report_of(options.out / "run")
    rows, linear, counts = report["rows"], report["linear_svc"], report["data"]
    figures = {"command": options.line, "rows": rows, "linear_svc": linear, "data": counts}
    publish(HERE / "multi_label" / name, table_of(rows, linear), note_on(counts, options), figures)


if __name__ == "__main__":
    main()
