"""Compare the teacher's training and labelling with ``transformers.Trainer``, on the same texts, in one run.

python benchmarks/training_speed.py --data ../shared/data/tnews5 --texts 1600 --seeds 4

For each seed in turn, three programs train the bundled weights for one epoch: the Trainer with its defaults (batches of
8, a learning rate of 5e-5 that decays), the Trainer with this program's batches of 32, learning rates, weight decay and
warm-up, and this program. Both Trainers use float32 and random batches padded to their longest text. The Trainer needs
the package accelerate. Writes benchmarks/training_speed/training_speed.json and .md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish  # noqa: E402

from distill.commands.experiment import labels_of  # noqa: E402
from distill.config import DataSettings, TeacherSettings  # noqa: E402
from distill.data import Example, load, stratified_split  # noqa: E402
from distill.evaluation.timing import processor  # noqa: E402
from distill.models import teacher  # noqa: E402
from distill.models.inference import PREDICTION_BATCH, predict_logits  # noqa: E402
from distill.models.pretrained import resolve  # noqa: E402
from distill.text.batching import Batch  # noqa: E402
from distill.training.losses import labels_only  # noqa: E402
from distill.training.optimizer import WARM_UP_SHARE, WEIGHT_DECAY  # noqa: E402
from distill.training.trainer import Schedule, Split, TrainingJob, fit  # noqa: E402

SEED = 42  # the first seed
TRAINER = "transformers.Trainer, its defaults"
TUNED_TRAINER = "transformers.Trainer, our batches and rates"
OURS = "this program"


class ForTrainer(torch.nn.Module):
    """Our teacher with the signature that the Trainer expects: the same network, pooling and loss."""

    def __init__(self, model: teacher.TeacherNetwork, smoothing: float) -> None:
        super().__init__()
        model.bf16 = False  # the Trainer's default is float32
        self.teacher, self.loss = model, torch.nn.CrossEntropyLoss(label_smoothing=smoothing)

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> dict[str, Any]:
        """Return logits (batch, classes), and the loss if labels are arguments."""
        logits = self.teacher(Batch(input_ids, attention_mask.sum(1)))
        return {"logits": logits} if labels is None else {"loss": self.loss(logits, labels), "logits": logits}


@dataclass(frozen=True)
class Task:
    """One comparison: data, seed and settings."""

    train: list[Example]
    dev: list[Example]
    classes: int
    seed: int
    settings: TeacherSettings = field(default_factory=lambda: TeacherSettings(epochs=1, batch_size=32, max_length=64))


def run_ours(task: Task) -> dict[str, float]:
    """Train for one epoch and label dev with this program."""
    train, dev, settings = task.train, task.dev, task.settings
    torch.manual_seed(task.seed)
    model, tokenizer = teacher.build(resolve(settings.model).source, settings, task.classes)
    dev_sample = dev[:1]  # fit evaluates on dev and the Trainer does not; both keep the last weights
    with teacher.used_rows(
        model, *(tokenizer.encode([e.text for e in split]) for split in (train, dev_sample))
    ) as inputs:
        job = TrainingJob(
            Split(inputs[0], labels_of(train)),
            Split(inputs[1], labels_of(dev_sample)),
            labels_only(settings.label_smoothing),
            Schedule(settings.epochs, settings.batch_size, ema_decay=settings.averaging),
            task.seed,
            "ours",
        )
        started = time.perf_counter()
        fit(model, model.parameter_groups(settings), job)
        seconds = time.perf_counter() - started
    started = time.perf_counter()
    logits = predict_logits(model, tokenizer.encode([example.text for example in dev]))
    labelling = time.perf_counter() - started
    return figures(seconds, labelling, logits, task)


def run_trainer(task: Task, *, our_settings: bool) -> dict[str, float]:
    """Train for one epoch and label dev with the Trainer, with our batches and learning rates or with its defaults."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    settings = task.settings
    torch.manual_seed(task.seed)
    model, tokenizer = teacher.build(resolve(settings.model).source, settings, task.classes)
    options: dict[str, Any] = {}
    optimizer = None
    if our_settings:
        options = {
            "per_device_train_batch_size": settings.batch_size,
            "per_device_eval_batch_size": PREDICTION_BATCH,
            "warmup_steps": WARM_UP_SHARE,
        }
        optimizer = torch.optim.AdamW(model.parameter_groups(settings), weight_decay=WEIGHT_DECAY, fused=True)

    def rows(split: list[Example]) -> list[dict[str, Any]]:
        encoded = tokenizer.tokenizer(
            [tokenizer.prefix + e.text for e in split], truncation=True, max_length=tokenizer.max_length
        )
        return [
            {"input_ids": ids, "attention_mask": mask, "labels": example.label}
            for ids, mask, example in zip(encoded["input_ids"], encoded["attention_mask"], split, strict=True)
        ]

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=settings.epochs,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=task.seed,
            use_cpu=not torch.cuda.is_available(),
            **options,
        )
        trainer = Trainer(
            ForTrainer(model, settings.label_smoothing),
            arguments,
            DataCollatorWithPadding(tokenizer.tokenizer),
            rows(task.train),  # type: ignore[arg-type]
            optimizers=(optimizer, None),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        logits = torch.from_numpy(trainer.predict(rows(task.dev)).predictions)  # type: ignore[arg-type]
        labelling = time.perf_counter() - started
    return figures(seconds, labelling, logits, task)


def figures(training: float, labelling: float, logits: torch.Tensor, task: Task) -> dict[str, float]:
    """Return the figures of one seed; the times are in seconds."""
    return {
        "train_texts_per_s": len(task.train) / training,
        "label_texts_per_s": len(task.dev) / labelling,
        "dev_accuracy": (logits.argmax(1) == labels_of(task.dev)).double().mean().item(),
    }


def mean(seeds: list[dict[str, float]]) -> dict[str, Any]:
    """Average over the seeds, and keep the accuracy of each."""
    means = {name: fmean(seed[name] for seed in seeds) for name in seeds[0]}
    return {**means, "dev_accuracies": [seed["dev_accuracy"] for seed in seeds]}


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="data folder; empty: the embedded reviews")
    parser.add_argument("--texts", type=int, default=2000, help="train texts, a stratified sample")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 42 on")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: one per core")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    data = load(DataSettings(data=arguments.data), SEED)
    _, chosen = stratified_split(list(data.train), SEED, min(1.0, arguments.texts / len(data.train)))
    tasks = [Task(chosen, list(data.dev), len(data.labels), SEED + place) for place in range(arguments.seeds)]
    rounds = [
        {
            TRAINER: run_trainer(task, our_settings=False),
            TUNED_TRAINER: run_trainer(task, our_settings=True),
            OURS: run_ours(task),
        }
        for task in tasks
    ]
    write(
        {name: mean([each[name] for each in rounds]) for name in rounds[0]},
        {
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "texts": len(chosen),
            "dev_texts": len(data.dev),
            "seeds": arguments.seeds,
        },
    )


def write(rows: dict[str, dict[str, Any]], machine: dict[str, Any]) -> None:
    """Write the table and the figures."""
    table = [
        ["", "train, texts/s", "speed-up by this program", "label, texts/s", "speed-up by this program", "dev accuracy"]
    ]
    for name, row in rows.items():
        rates = [(row[rate], rows[OURS][rate] / row[rate]) for rate in ("train_texts_per_s", "label_texts_per_s")]
        cells = [cell for rate, times in rates for cell in (f"{rate:.1f}", f"{times:.2f} ×")]
        each = ", ".join(f"{accuracy:.4f}" for accuracy in row["dev_accuracies"])
        table.append([name, *cells, f"{row['dev_accuracy']:.4f} ({each})"])
    note = (
        f"{machine['texts']} train texts, {machine['dev_texts']} dev texts; means of {machine['seeds']} seeds; "
        f"threads: {machine['threads']}; PyTorch {machine['torch']}, {machine['processor']}."
    )
    publish(HERE / "training_speed" / "training_speed", table, note, {"machine": machine, "rows": rows})


if __name__ == "__main__":
    main()
