"""Measure students of teachers that this program did not train: a Hugging Face classifier, and recorded answers.

python benchmarks/teachers.py --data ../shared/data/tnews5 --unlabeled ../shared/data/unlabeled_headlines.txt

Three teachers have the same students, with the same texts, seeds and flags: our own teacher's logits, a classifier that
``transformers.Trainer`` fine-tuned from the same encoder on train, used as it is, and our own teacher's answers to the
train, dev and unlabelled texts recorded as a label and a confidence. Recorded answers have no hidden vectors, so all
students go without word vectors from the teacher, general texts and hints.

Everything else is a command of the program. Finished stages are kept in --out; --run RUN takes our own teacher from an
existing run. Flags after ``--`` are passed to every command. Writes benchmarks/teachers/teachers.json and .md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish  # noqa: E402
from recorded_answers import answers_of, write_answers  # noqa: E402
from run_mode import SPLIT_SEED, command, parse, report_of  # noqa: E402

from distill.config import DataSettings  # noqa: E402
from distill.data import Dataset, load  # noqa: E402
from distill.evaluation.timing import processor  # noqa: E402

PLAIN = ("--vectors", "bundled", "--general_words", "0", "--general_sentences", "0", "--objective", "logits")
ROWS = {  # name of the run -> what its students learn from
    "own": "our own teacher's logits",
    "trainer": "a classifier fine-tuned by transformers.Trainer",
    "recorded": "our own teacher's recorded answers: label and confidence",
}


def fine_tune(folder: Path, data: Dataset, options: argparse.Namespace) -> Path:
    """Fine-tune the bundled encoder with ``transformers.Trainer`` and save it; an existing folder is kept."""
    if (folder / "config.json").is_file():
        return folder
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    from distill.models.inference import best_device
    from distill.models.pretrained import resolve
    from distill.models.teacher import has_fast_bf16

    source, names = resolve(options.teacher_model).source, dict(enumerate(data.labels))
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=len(names), id2label=names, label2id={name: index for index, name in names.items()}
    )
    rows = [
        {**tokenizer(example.text, truncation=True, max_length=64), "labels": example.label} for example in data.train
    ]
    arguments = TrainingArguments(
        str(folder.with_name(f"{folder.name}.trainer")),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=32,
        learning_rate=options.learning_rate,
        warmup_steps=100,
        lr_scheduler_type="linear",
        save_strategy="no",
        report_to=[],
        seed=SPLIT_SEED,
        bf16=has_fast_bf16(best_device()),
        use_cpu=best_device().type == "cpu",
    )
    trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(folder))
    return folder


def record_answers(path: Path, teacher: Path, data: Dataset, options: argparse.Namespace) -> Path:
    """Write the teacher's label and confidence for the train, dev and unlabelled texts; an existing file is kept."""
    if path.is_file():
        return path
    texts = [example.text for example in (*data.train, *data.dev)]
    for name in options.unlabeled:
        texts += [line.strip() for line in name.read_text("utf-8").split("\n") if line.strip()]
    return write_answers(path, answers_of(teacher, list(dict.fromkeys(texts))))


def measure(name: str, teacher: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train the students of one teacher, evaluate them on test and return the figures."""
    run = options.out / name
    command(run, "train_student", options, "--teacher", teacher, *PLAIN)
    command(run, "test", options, "--teacher", teacher, *PLAIN)
    by_name = {row["name"]: row for row in report_of(run)["rows"]}
    student, own = by_name["student"], by_name.get("teacher")
    return {
        "name": name,
        "teacher": ROWS[name],
        "teacher_accuracy": own and own["accuracy"],
        "accuracy": student["accuracy"],
        "accuracy_sd": student.get("accuracy_sd"),
        "seeds": student["seeds"],
    }


def table_of(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Format the rows; each is compared with the first."""
    table = [["students of", "teacher on test", "students on test", "points", "seeds"]]
    for row in rows:
        teacher = "-" if row["teacher_accuracy"] is None else f"{row['teacher_accuracy']:.4f}"
        sd = "" if row["accuracy_sd"] is None else f" ±{row['accuracy_sd']:.4f}"
        points = "-" if row is rows[0] else f"{100 * (row['accuracy'] - rows[0]['accuracy']):+.2f}"
        table.append([row["teacher"], teacher, f"{row['accuracy']:.4f}{sd}", points, str(row["seeds"])])
    return table


def main() -> None:
    """Measure the students of each teacher and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tnews5"), help="data folder")
    parser.add_argument("--unlabeled", type=Path, nargs="*", default=[Path("../shared/data/unlabeled_headlines.txt")])
    parser.add_argument("--run", type=Path, help="existing run on the same data with a trained teacher")
    parser.add_argument("--out", type=Path, default=Path("runs/teachers"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3, help="students of each teacher")
    parser.add_argument("--epochs", type=float, default=4, help="epochs of transformers.Trainer")
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="peak learning rate of transformers.Trainer")
    parser.add_argument("--teacher_model", default="bundled", help="encoder that transformers.Trainer fine-tunes")
    options = parse(parser)
    options.out.mkdir(parents=True, exist_ok=True)
    data = load(DataSettings(data=str(options.data)), SPLIT_SEED)
    if options.run is None:
        options.run = options.out / "teacher"
        command(options.run, "train_teacher", options, "--teacher_model", options.teacher_model)
    own = options.run / "teacher"
    classifier = fine_tune(options.out / "classifier", data, options)
    answers = record_answers(options.out / "answers.csv", own, data, options)
    rows = [
        measure("own", own, options),
        measure("trainer", classifier, options),
        measure("recorded", answers, options),
    ]
    note = f"{data.counts['train']:,} train texts, {processor()}. {options.line}"
    figures = {"command": options.line, "data": options.data.name, "processor": processor(), "rows": rows}
    publish(HERE / "teachers" / "teachers", table_of(rows), note, figures)


if __name__ == "__main__":
    main()
