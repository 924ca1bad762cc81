"""Measure a run on texts with several labels, made from a data set whose texts have one: declared synthetic.

python benchmarks/multi_label.py --data ../shared/data/headlines15

Two headlines of different classes are joined into one text with both labels; some stay single. Train, dev and test are
made from the headlines of train, dev and test, each used once. Teacher, student alone and distilled students have
default flags; the baseline is one LinearSVC per class. Finished stages are kept in --out. Flags after ``--`` are passed
to every command. Writes benchmarks/multi_label/NAME.json and .md, NAME being that of the data.
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
from run_mode import SPLIT_SEED, command, parse, write_data  # noqa: E402

from distill.config import DataSettings  # noqa: E402
from distill.data import Example, load  # noqa: E402
from distill.evaluation.timing import processor  # noqa: E402

SINGLE_SHARE = 1 / 3  # of the texts
FIGURES = ("micro_f1", "macro_f1", "subset_accuracy", "mean_average_precision")
TITLES = {"teacher": "teacher", "student_alone": "student alone", "student": "distilled student"}


def label_sets(examples: Sequence[Example], count: int, labels: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """``count`` texts, each of one headline or of two with different labels; no headline is used twice."""
    drawn = random.Random(seed)
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
        sd = f" ± {row['micro_f1_sd']:.4f}" if "micro_f1_sd" in row else ""
        others = [f"{row[figure]:.4f}" if row.get(figure) is not None else "-" for figure in FIGURES[1:]]
        kept = f"{100 * row['micro_f1'] / teacher:.1f} %"
        name = TITLES.get(row["name"], row["name"])
        table.append([name, f"{row['micro_f1']:.4f}{sd}", kept, *others, str(row["seeds"])])
    return table


def main() -> None:
    """Make the data, train and evaluate the models, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/headlines15"), help="data folder")
    parser.add_argument("--out", type=Path, default=Path("runs/multi_label"), help="folder of the data and the run")
    parser.add_argument("--sizes", type=int, nargs=3, default=(6000, 1000, 1500), help="texts of train, dev and test")
    parser.add_argument("--seeds", type=int, default=3, help="students of each kind")
    options = parse(parser)
    sizes = dict(zip(("train", "dev", "test"), options.sizes, strict=True))
    source = load(DataSettings(data=str(options.data)), SPLIT_SEED)
    splits = {
        split: label_sets(getattr(source, split), count, source.labels, SPLIT_SEED) for split, count in sizes.items()
    }
    options.data, name = write_data(options.out / "data", splits), options.data.name
    command(options.out / "run", "all", options)
    report = json.loads((options.out / "run" / "report" / "report.json").read_text("utf-8"))
    counts = report["data"]
    texts = ", ".join(f"{counts[split]:,} {split}" for split in sizes)
    note = f"{texts} texts. {processor()}. {options.line}"
    figures = {"command": options.line, "rows": report["rows"], "linear_svc": report["linear_svc"], "data": counts}
    publish(HERE / "multi_label" / name, table_of(report["rows"], report["linear_svc"]), note, figures)


if __name__ == "__main__":
    main()
