"""Settings of a trained student's use: export, files, service."""

from __future__ import annotations

from dataclasses import dataclass

from distill.config.fields import Checked, option

FORMATS = ("bundle", "onnx")
ENGINES = ("local", "ray")
INPUT_FORMATS = ("txt", "csv", "tsv", "jsonl")
WHEN = ("auto", "yes", "no")


@dataclass(frozen=True)
class ExportSettings(Checked):
    """What --mode export and --mode benchmark take."""

    format: str = option(
        "bundle", "bundle: a folder that runs without PyTorch; onnx: student and teacher as ONNX files", choices=FORMATS
    )
    student_folder: tuple[str, ...] = option(
        (), "folder of a trained student instead of the run's own; --mode benchmark takes several", path=True
    )
    max_mb: float = option(
        20.0, "megabytes of a bundle at most: its rarest words are left out beyond that; 0: no limit", low=0, high=1e6
    )
    push_to_hub: str = option("", "USER/NAME of a model on the Hub: --mode export sends bundle and model card there")


@dataclass(frozen=True)
class PredictSettings(Checked):
    """What --mode predict reads and writes; --mode serve takes the bundle too."""

    bundle: str = option("", "folder of the student's bundle; empty: the run's own", path=True)
    input: tuple[str, ...] = option(
        (), "file, folder or pattern of txt, csv, tsv, jsonl or parquet files; -: standard input", path=True
    )
    output: str = option(
        "", "file or folder for the same rows with label and probability; -: standard output", path=True
    )
    input_format: str = option("txt", "what standard input holds", choices=INPUT_FORMATS)
    probabilities: bool = option(False, "write the probability of every label")
    strict: bool = option(False, "stop at the first bad row, instead of writing it into a file of its own")
    engine: str = option("local", "local: this machine's cores; ray: a cluster, over Parquet", choices=ENGINES)
    workers: int = option(0, "--engine ray: predictors; 0: one per core of the cluster", low=0)


@dataclass(frozen=True)
class ServeSettings(Checked):
    """What --mode serve listens to, and what it refuses."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0: every one")
    port: int = option(8000, "port to listen on", low=0, high=65535)
    with_teacher: str = option(
        "auto", "answer with the teacher beside the student, on the page; auto: where it is there", choices=WHEN
    )
    most_texts: int = option(1024, "texts in a request", low=1)
    most_characters: int = option(10_000, "characters in a text", low=1)
    most_bytes: int = option(2**20, "bytes of a request; a file to be labelled may have 20 times as many", low=1)
    most_waiting: int = option(1024, "requests that wait at a time; more are refused", low=1)
    wait_s: float = option(10.0, "seconds that a request may wait for its answer", flag="wait", low=0.001, high=3600)
    stop_s: float = option(
        30.0, "seconds that accepted requests have when the service is stopped", flag="stop", low=0, high=3600
    )
    access_log: bool = option(False, "write a line for every request; there is one a minute anyway, and never a text")
