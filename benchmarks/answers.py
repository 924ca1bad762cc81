"""Measure how many recorded answers are enough, and how much wrong ones cost.

python benchmarks/answers.py --unlabeled ../shared/data/unlabeled_headlines.txt --run runs/tnews5

A few hundred labelled texts and a file of answers, as a language model would give them, teach the students; test is
that of the data. The answers are the labels and confidences of a teacher that is trained already (--run), for
unlabelled texts that it never saw. Smaller files of answers are the beginnings of larger ones. For every --wrong above
0, so large a share of the answers, drawn at random, is replaced by other labels.

Everything else is a command of the program with its default settings. Finished stages are kept in --out. Flags after
``--`` are passed to every command. Writes benchmarks/teachers/answers.json and .md.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish, shown  # noqa: E402
from recorded_answers import Answer, answers_of, write_answers  # noqa: E402
from run_mode import SPLIT_SEED, command, parse, report_of, write_data  # noqa: E402

from distill.config import DataSettings  # noqa: E402
from distill.data import load, read_unlabelled  # noqa: E402
from distill.data.formats.records import Columns  # noqa: E402
from distill.data.readers import Reader  # noqa: E402
from distill.evaluation.timing import processor  # noqa: E402


def with_wrong(answers: Sequence[Answer], labels: Sequence[str], share: float) -> list[Answer]:
    """The answers, each replaced by another label with the probability ``share``."""
    generator = random.Random(SPLIT_SEED)

    def other(label: str) -> str:
        return generator.choice([name for name in labels if name != label])

    return [(text, other(label) if generator.random() < share else label, sure) for text, label, sure in answers]


def measure(run: Path, options: argparse.Namespace, *flags: object) -> dict[str, Any]:
    """Train the students of one run, evaluate them on test, and return the figures by the names of the models."""
    command(run, "train_student", options, *flags)
    command(run, "test", options, *flags)
    report = report_of(run)
    return {**{row["name"]: row for row in report["rows"]}, "linear": report["linear_svc"]}


def main() -> None:
    """Write the files of answers, train the students of each and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tnews5"), help="data folder")
    parser.add_argument("--unlabeled", type=Path, nargs="+", required=True, help="texts that are answered")
    parser.add_argument("--run", type=Path, required=True, help="run on the same data with a trained teacher")
    parser.add_argument("--out", type=Path, default=Path("runs/answers"), help="folder of the files and the runs")
    parser.add_argument("--labelled", type=int, default=300, help="labelled texts")
    parser.add_argument("--answers", type=int, nargs="+", default=[300, 1000, 3000, 10000], help="sizes of the files")
    parser.add_argument("--wrong", type=float, nargs="+", default=[0, 0.2], help="shares that are replaced")
    parser.add_argument("--seeds", type=int, default=3, help="students of each file")
    options = parse(parser)

    data, name = load(DataSettings(data=str(options.data)), SPLIT_SEED), options.data.name
    unseen, _ = read_unlabelled(options.unlabeled, Reader(Columns(is_labelled=False)), data)
    asked = random.Random(SPLIT_SEED).sample(unseen, max(options.answers))
    answers = answers_of(options.run / "teacher", [example.text for example in (*asked, *data.dev)])
    answers, on_dev = answers[: len(asked)], answers[len(asked) :]
    right = [label == data.labels[example.label] for (_, label, _), example in zip(on_dev, data.dev, strict=True)]
    share_right = sum(right) / len(right)

    labelled = random.Random(SPLIT_SEED).sample(data.train, options.labelled)
    splits = {"train": labelled, "test": data.test}
    rows = {part: [{"text": e.text, "label": data.labels[e.label]} for e in splits[part]] for part in splits}
    options.data, options.unlabeled = write_data(options.out / "data", rows), []
    alone = measure(options.out / "alone", options, "--a", 1, "--T", 0)
    students: dict[tuple[int, float], dict[str, Any]] = {}
    for wrong in options.wrong:
        answers_given = with_wrong(answers, data.labels, wrong)
        for count in options.answers:
            run = options.out / f"{count}-{wrong:g}"
            file = write_answers(run / "answers.csv", answers_given[:count])
            students[count, wrong] = measure(run, options, "--unlabeled", file, "--teacher", file)["student"]

    by_chance = (1 - share_right) / (len(data.labels) - 1)
    shares = [(1 - wrong) * share_right + wrong * by_chance for wrong in options.wrong]
    table = [["answers", *(f"{share:.0%} of them right" for share in shares)]]
    for count in options.answers:
        cells = [students[count, wrong] for wrong in options.wrong]
        table.append([f"{count:,}", *(shown(cell["accuracy"], cell["accuracy_sd"]) for cell in cells)])
    of_labels = alone["student_alone"]
    baseline = shown(of_labels["accuracy"], of_labels["accuracy_sd"])
    note = (
        f"Accuracy on {len(data.test):,} test texts of {name}, mean ± standard deviation of {options.seeds} students, "
        f"with {options.labelled} labelled texts. The labels alone give a student {baseline}, and a LinearSVC "
        f"{shown(alone['linear']['accuracy'])}. {processor()}. {options.line}"
    )
    figures = [{"answers": count, "wrong": wrong, **cell} for (count, wrong), cell in students.items()]
    whole = {"command": options.line, "right_on_dev": share_right, "alone": alone, "students": figures}
    publish(HERE / "teachers" / "answers", table, note, whole)


if __name__ == "__main__":
    main()
