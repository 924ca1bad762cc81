"""The suite on which defaults are chosen and judged: five data sets, whole and in samples of a few texts per class.

python benchmarks/suite.py --shared ../shared/data --on dev --only tnews5-100 headlines15-100
python benchmarks/suite.py --shared ../shared/data --on test --seeds 3 --draws 3

Every case is one run of ``python distill.py`` with its defaults. With ``--on dev`` the run's test file is a stratified
tenth of the data set's train texts, so that test stays closed while something is chosen; with ``--on test`` it is the
data set's own. Finished runs are kept: the same command continues where it was stopped. Flags after ``--`` are passed
to every run, which then has a separate folder. Writes OUT/ON.json and .md; ``--keep`` also writes benchmarks/suite/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from published import publish  # noqa: E402
from run_mode import parse  # noqa: E402

from distill.config import DataSettings  # noqa: E402
from distill.data import Dataset, Example, load  # noqa: E402

SETS = ("tnews5", "headlines15", "chnsenticorp", "waimai_10k", "reviews")  # the last one is the embedded default
SIZES = (50, 100, 300, 1000)  # texts per class
HEADLINES = ("tnews5", "headlines15")  # data sets that the unlabelled headlines suit
WITH_UNLABELLED = "+unlabelled"
SPLIT_SEED = 42
MODELS = {"teacher": "teacher", "student_alone": "alone", "student": "distilled"}


@dataclass(frozen=True)
class Case:
    """A data set, whole (``size`` 0) or ``size`` texts per class of it, with or without the unlabelled headlines."""

    source: str
    size: int = 0
    unlabelled: bool = False

    @property
    def name(self) -> str:
        """The name in the table and after --only."""
        return self.source + f"-{self.size}" * bool(self.size) + WITH_UNLABELLED * self.unlabelled


CASES = [
    *(Case(source) for source in SETS),
    *(Case(source, size) for size in SIZES for source in SETS),
    *(Case(source, size, unlabelled=True) for size in SIZES for source in HEADLINES),
]


def data_folder(case: Case, draw: int, options: argparse.Namespace) -> Path:
    """Return the folder with a case's train and test texts, and write it if it does not exist."""
    folder: Path = options.out / options.on / "data" / f"{case.source}-{case.size or 'whole'}.{draw}"
    if (folder / "test.jsonl").exists():
        return folder
    data = load(DataSettings(data="" if case.source == SETS[-1] else str(options.shared / case.source)), SPLIT_SEED)
    train, held_out = list(data.train), data.dev
    if options.on == "test":
        train, held_out = [*train, *data.dev], data.test
    chosen = sample(train, case.size, draw) if case.size else train
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "train.jsonl", chosen, data)
    write(folder / "test.jsonl", held_out, data)
    return folder


def sample(train: Sequence[Example], size: int, draw: int) -> list[Example]:
    """Return ``size`` texts of every class, or all of a class that has fewer."""
    by_class: dict[int, list[Example]] = defaultdict(list)
    for example in train:
        by_class[example.label].append(example)
    rng = random.Random(1000 * size + draw)
    return [example for _, group in sorted(by_class.items()) for example in rng.sample(group, min(size, len(group)))]


def write(path: Path, examples: Sequence[Example], data: Dataset) -> None:
    """Write texts and labels as JSON lines."""
    lines = (json.dumps({"text": e.text, "label": data.labels[e.label]}, ensure_ascii=False) for e in examples)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_case(case: Case, draw: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run a case and return its report; stages that are finished are kept."""
    variant = "default" if not options.flags else hashlib.sha256(" ".join(options.flags).encode()).hexdigest()[:8]
    folder = options.out / options.on / variant / f"{case.name}.{draw}"
    flags = ["--data", data_folder(case, draw, options), "--run", folder, "--seeds", options.seeds, *options.flags]
    if case.unlabelled:
        other = HEADLINES[1 - HEADLINES.index(case.source)]
        flags += ["--unlabeled", options.shared / "unlabeled_headlines.txt"]
        flags += ["--unlabeled", data_folder(Case(other), 1, options) / "train.jsonl"]
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with (folder / "output.txt").open("a", encoding="utf-8") as output:
        command = [sys.executable, str(ROOT / "distill.py"), *map(str, flags)]
        subprocess.run(command, check=True, stdout=output, stderr=output, cwd=ROOT)  # noqa: S603
    report: dict[str, Any] = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    return report | {"seconds": time.perf_counter() - started}


def summarise(case: Case, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average over the draws, each a mean over its seeds; a single draw gets the standard deviation over its seeds."""
    accuracies = {
        name: [row["accuracy"] for report in reports for row in report["rows"] if row["name"] == model]
        for model, name in MODELS.items()
    }
    row: dict[str, Any] = {"case": case.name, "draws": len(reports), "train": reports[0]["data"]["train"]}
    row |= {name: fmean(values) for name, values in accuracies.items()}
    if len(reports) > 1:
        row["distilled_sd"] = stdev(accuracies["distilled"])
    else:
        distilled = next(model for model in reports[0]["rows"] if model["name"] == "student")
        row["distilled_sd"] = distilled.get("accuracy_sd", 0.0)
    row["linear_svc"] = fmean(report["linear_svc"]["accuracy"] for report in reports)
    row["kept"] = row["distilled"] / row["teacher"]
    row["seconds"] = sum(report["seconds"] for report in reports)
    return row


def format_table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Format the rows as a table."""
    header = ["", "train", "teacher", "LinearSVC", "alone", "distilled", "kept", "- alone", "- LinearSVC", "draws"]
    return [header, *(list(_cells(row)) for row in rows)]


def _cells(row: dict[str, Any]) -> Iterator[str]:
    yield row["case"]
    yield f"{row['train']:,}"
    yield from (f"{row[name]:.4f}" for name in ("teacher", "linear_svc", "alone"))
    yield f"{row['distilled']:.4f}" + f" ±{row['distilled_sd']:.4f}" * (row["distilled_sd"] > 0)
    yield f"{100 * row['kept']:.1f} %"
    yield from (f"{100 * (row['distilled'] - row[name]):+.2f}" for name in ("alone", "linear_svc"))
    yield str(row["draws"])


def main() -> None:
    """Run the selected cases and print the table after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/suite"))
    parser.add_argument("--on", choices=("dev", "test"), default="dev")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], default=[c.name for c in CASES])
    parser.add_argument("--seeds", type=int, default=1, help="students of each kind")
    parser.add_argument("--draws", type=int, default=1, help="draws of each small case")
    parser.add_argument("--keep", action="store_true", help="also write the table to benchmarks/suite/")
    options = parse(parser)
    rows: list[dict[str, Any]] = []
    for case in (case for case in CASES if case.name in options.only):
        draws = range(1, 1 + (options.draws if case.size else 1))
        rows.append(summarise(case, [run_case(case, draw, options) for draw in draws]))
        for target in [options.out / options.on, *([HERE / "suite" / options.on] if options.keep else [])]:
            publish(target, format_table(rows), options.line, {"command": options.line, "rows": rows})


if __name__ == "__main__":
    main()
