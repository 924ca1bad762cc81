"""The commands that are killed or run out of space, on small real inputs: training, labelling, export, prediction."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from injection import Injector, Outcome, contents, leftovers, restart_with_library, restore

SUBJECTS = {"体育": "球队 教练 比赛 冠军 进球", "财经": "股票 基金 银行 价格 投资", "科技": "手机 芯片 软件 电脑 网络"}
ENDINGS = ["今天公布新消息", "为什么这么火", "到底怎么样", "让人没想到", "又上了头条", "大家怎么看"]
TITLES = [(f"{word}{end}", label) for end in ENDINGS for label, words in SUBJECTS.items() for word in words.split()]
CHUNK_ROWS, PART_ROWS = 16, 48  # so that a small input has several parts
FORMATS = ("jsonl", "csv", "parquet")
STAGES = ("train_teacher", "label", "train_student", "export", "predict", "ray")
TRAINING = {
    "teacher_epochs": 2,
    "student_epochs": 2,
    "student_hidden": 8,
    "student_batch": 16,
    "ngrams": 64,
    "general_words": 0,
    "general_sentences": 0,
    "threads": 1,
    "a": 1,
    "T": 1,
}


@dataclass(frozen=True)
class Job:
    """A command, and the folder that it starts from; ``root`` is where it works."""

    name: str
    arguments: tuple[str, ...]
    before: Path
    root: Path

    def start_over(self) -> None:
        """Put the folder back into the state before the command."""
        restore(self.before, self.root)


def make_small_parts() -> None:
    """Shorten the parts of a prediction."""
    from distill.data.formats import parquet, text_lines
    from distill.predict import checkpoint

    text_lines.CHUNK_ROWS = parquet.CHUNK_ROWS = CHUNK_ROWS
    checkpoint.PART_ROWS = PART_ROWS


def import_all(options: argparse.Namespace) -> None:
    """Import what the commands import, once for all child processes."""
    names = ["distill.predict.local", "distill.data.formats", "tqdm"]
    if "parquet" in options.formats:
        names += ["pyarrow.dataset", "pyarrow.parquet"]
    if set(options.stages) - {"predict", "ray"}:
        commands = ("train_teacher", "label", "train_student", "export")
        names += ["transformers.models.bert.modeling_bert", *(f"distill.commands.{name}" for name in commands)]
    for name in names:
        importlib.import_module(name)


def write_training_inputs(folder: Path) -> None:
    """A tiny BERT, word vectors, train and test titles, and unlabelled titles."""
    import numpy as np
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    titles = folder / "titles"
    titles.mkdir(parents=True)
    for name, rows in (("train", TITLES[:75]), ("test", TITLES[75:])):
        lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
        (titles / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "unlabelled.txt").write_text("".join(f"{text}了吗\n" for text, _ in TITLES), encoding="utf-8")
    characters = sorted({char for text, _ in TITLES for char in text})
    bert = folder / "tiny-bert-chinese"
    bert.mkdir()
    (bert / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]), "utf-8")
    BertTokenizerFast(vocab=str(bert / "vocab.txt")).save_pretrained(bert)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(characters) + 5, max_position_embeddings=40, **sizes)).save_pretrained(bert)
    words = [word for group in SUBJECTS.values() for word in group.split()]
    numbers = np.random.default_rng(0).normal(size=(len(words), 8))
    lines = [f"{word} {' '.join(f'{number:.4f}' for number in row)}" for word, row in zip(words, numbers, strict=True)]
    (folder / "vectors.txt").write_text("\n".join([f"{len(words)} 8", *lines]) + "\n", encoding="utf-8")


def write_texts(folder: Path, rows: int, formats: Sequence[str]) -> None:
    """Inputs of a prediction, with bad rows, and a private output that is replaced."""
    texts = [TITLES[n % len(TITLES)][0] * (n % 3 + 1) if n % 40 else "" for n in range(rows)]
    (folder / "in").mkdir(parents=True)
    lines = {
        "jsonl": [json.dumps({"id": n, "text": text}, ensure_ascii=False) for n, text in enumerate(texts)],
        "csv": ["id,text", *(f"{n},{text}" for n, text in enumerate(texts))],
    }
    for name in formats:
        path = folder / "in" / f"{name}.{name}"
        if name in lines:
            path.write_text("\n".join(lines[name]) + "\n", encoding="utf-8")
        else:
            write_parquet(path, texts)
    (folder / "out").mkdir()
    old = folder / "out" / f"{formats[0]}.{formats[0]}"
    old.write_text("an older output\n")
    old.chmod(0o600)


def write_parquet(path: Path, texts: Sequence[str]) -> None:
    """Texts, with a number, as Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": list(range(len(texts))), "text": [text or None for text in texts]})
    parquet.write_table(table, path, row_group_size=50)


def command(stage: str, root: Path, bundle: Path | None) -> tuple[str, ...]:
    """The arguments of a stage's command."""
    if stage in ("predict", "ray"):
        source, output = (root / "in", root / "out") if stage == "predict" else (root / "ray_in", root / "ray_out")
        engine = ["--engine", "ray"] if stage == "ray" else []
        flags = ["--bundle", bundle or root / "run" / "bundle", "--input", source, "--output", output, "--threads", "2"]
        return ("--mode", "predict", *map(str, flags), *engine)
    paths = [
        "--data",
        root / "titles",
        "--teacher_model",
        root / "tiny-bert-chinese",
        "--vectors",
        root / "vectors.txt",
    ]
    unlabelled = ["--unlabeled", root / "unlabelled.txt", "--run", root / "run"]
    settings = [part for name, value in TRAINING.items() for part in (f"--{name}", value)]
    return ("--mode", stage, *map(str, [*paths, *unlabelled, *settings]))


@contextlib.contextmanager
def prepared(options: argparse.Namespace, prefix: str) -> Iterator[tuple[Injector, list[Job]]]:
    """The jobs of ``options.stages`` in a temporary folder, and what runs them with faults."""
    restart_with_library()
    import_all(options)
    make_small_parts()
    from distill.cli import main as distill

    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        work = Path(folder).resolve()
        injector = Injector(distill, work / "job")
        yield injector, make_jobs(work, injector, options)


def command_line(script: str) -> str:
    """How a script of this folder was called."""
    return shlex.join(["python", f"benchmarks/reliability/{script}", *sys.argv[1:]])


def write_record(output: Path, script: str, started: float, figures: dict[str, Any]) -> None:
    """Write a script's figures with its command, the machine, and the seconds since ``started``."""
    record = {
        "command": command_line(script),
        "machine": machine(),
        "seconds": round(time.perf_counter() - started),
        **figures,
    }
    output.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def make_jobs(work: Path, injector: Injector, options: argparse.Namespace) -> list[Job]:
    """The jobs of ``options.stages``, each with the folder that the stages before it leave, without a kill."""
    root, jobs, stages, bundle = work / "job", [], options.stages, options.bundle
    if bundle is None:
        write_training_inputs(root)
    write_texts(root, options.rows, options.formats)
    if "ray" in stages:
        write_parquet(root / "ray_in" / "a.parquet", [text for text, _ in TITLES])
        write_parquet(root / "ray_in" / "b.parquet", [text for text, _ in TITLES[::-1]])
    for stage in STAGES:
        if stage not in stages and (bundle or stage in ("predict", "ray")):
            continue
        before = work / f"before_{stage}"
        shutil.copytree(root, before)
        job = Job(stage, command(stage, root, bundle), before, root)
        if stage in stages:
            jobs.append(job)
        outcome = injector.run(job.arguments)
        if outcome.code:
            raise SystemExit(f"{stage} fails without a kill:\n{outcome.printed}")
    return jobs


@dataclass(frozen=True)
class Reference:
    """What a job leaves when nothing happens to it."""

    outcome: Outcome
    files: dict[str, Any]

    @classmethod
    def of(cls, job: Job, injector: Injector) -> Reference:
        """Run the job."""
        job.start_over()
        outcome = injector.run(job.arguments)
        return cls(outcome, contents_of(job))


def contents_of(job: Job) -> Any:
    """The files of a job's folder; of Ray's output, whose files have random names, the rows."""
    if job.name != "ray":
        return contents(job.root)
    from pyarrow import parquet

    output = job.root / "ray_out"
    rows = [row for path in sorted(output.rglob("*.parquet")) for row in parquet.read_table(path).to_pylist()]
    others = {name: content for name, content in contents(job.root).items() if not name.startswith("ray_out/")}
    return {**others, "rows": rows}


def finish(job: Job, injector: Injector, reference: Reference, last: Outcome) -> list[str]:
    """Repeat a job unless its last run succeeded; what is wrong with the result, in words."""
    outcome = injector.run(job.arguments) if last.code else last
    problems = [f"the repeated command ends with {outcome.code}: {outcome.printed[-500:]}"] if outcome.code else []
    problems += ["traceback"] if "Traceback" in outcome.printed else []
    problems += [f"left: {name}" for name in leftovers(job.root)]
    files = contents_of(job)
    different = [name for name in {**files, **reference.files} if files.get(name) != reference.files.get(name)]
    return problems + [f"different: {name}" for name in sorted(different) if not _is_leftover(name)]


def _is_leftover(name: str) -> bool:
    return "distill-" in name


def random_generator(seed: int, what: str) -> random.Random:
    """A generator for one stage."""
    return random.Random(f"{seed} {what}")


def machine() -> str:
    """Cores and processor."""
    from distill.evaluation.timing import processor

    return f"{os.cpu_count()} cores, {processor()}"
