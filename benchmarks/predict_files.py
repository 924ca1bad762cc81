"""Measure seconds and memory of ``--mode predict`` on a file of headlines in every format.

python benchmarks/predict_files.py --bundle runs/news/bundle --texts headlines.txt --rows 1000000
python benchmarks/predict_files.py --bundle … --texts … --formats csv --rows 1000,100000,10000000 --name growth
python benchmarks/predict_files.py --bundle … --texts … --formats csv --odd 0.01 --name odd_rows

Each format is labelled by one command in a fresh process, after a file of one row that shows how long the start takes.
Every row is a text of --texts followed by a running number, so that no two rows are equal. Of --odd rows, a quarter
each has a cell too many, a quote that is never closed, a carriage return, and no text (CSV and TSV only). If ray is
installed, ``--engine ray`` labels the same rows as Parquet on a cluster of this machine, including the start of the
cluster. Writes benchmarks/predict_files/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish  # noqa: E402

from distill.evaluation.timing import processor  # noqa: E402

FORMATS = ("txt", "csv", "tsv", "jsonl", "parquet", "ray")
FILES = 8  # input files for --engine ray
GROUP = 2**17  # rows of a Parquet row group
POLL_S = 0.05


def rows(texts: list[str], count: int) -> Iterator[tuple[int, str]]:
    """Yield ``count`` numbered texts, cycling through ``texts``."""
    return ((number, f"{text} {number}") for number, text in enumerate(islice(cycle(texts), count)))


def odd_lines(path: Path, delimiter: str, share: float) -> None:
    """Change a share of the lines of a table into rows that are unusual or bad."""
    chosen = random.Random(0)
    changes: list[Callable[[str], str]] = [
        lambda line: f"{line}{delimiter}more",
        lambda line: line.replace(delimiter, f'{delimiter}"', 1),
        lambda line: line.replace(delimiter, f"{delimiter}\r", 1),
        lambda line: f"{line.partition(delimiter)[0]}{delimiter}",
    ]
    usual = path.with_suffix(".usual")
    path.rename(usual)
    with usual.open(encoding="utf-8", newline="") as source, path.open("w", encoding="utf-8", newline="") as target:
        target.write(next(source))
        for line in source:
            odd = chosen.random() < share
            target.write(chosen.choice(changes)(line.rstrip("\r\n")) + "\n" if odd else line)


def write(path: Path, texts: list[str], count: int) -> Path:
    """Write the rows in the format of the path's suffix; for ray, a folder of several Parquet files."""
    if path.suffix == ".ray":
        path.mkdir()
        for part in range(FILES):
            write(path / f"{part}.parquet", texts[part:] + texts[:part], count // FILES)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        schema, numbered = pa.schema({"id": pa.int64(), "title": pa.string()}), rows(texts, count)
        with parquet.ParquetWriter(path, schema) as file:
            while group := list(islice(numbered, GROUP)):
                file.write_table(pa.table(list(zip(*group, strict=True)), schema=schema))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            if path.suffix in {".csv", ".tsv"}:
                table = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
                table.writerow(["id", "title"])
                table.writerows(rows(texts, count))
            for number, text in rows(texts, count) if path.suffix in {".txt", ".jsonl"} else ():
                record = json.dumps({"id": number, "title": text}, ensure_ascii=False)
                file.write(f"{text if path.suffix == '.txt' else record}\n")
    return path


def measure(kind: str, count: int, arguments: argparse.Namespace, texts: list[str], folder: Path) -> dict[str, float]:
    """Return seconds of the whole command and of its processors, and peak memory of its process in MB (10^6 bytes)."""
    source, output = write(folder / f"in.{kind}", texts, count), folder / f"out.{kind}"
    if arguments.odd and kind in ("csv", "tsv"):
        odd_lines(source, "," if kind == "csv" else "\t", arguments.odd)
    command = [sys.executable, str(HERE.parent / "distill.py"), "--mode", "predict", "--bundle", arguments.bundle]
    flags = ["--input", str(source), "--output", str(output), "--threads", str(arguments.threads)]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    engine = ["--engine", "ray"] if kind == "ray" else []
    with subprocess.Popen([*command, *flags, *engine]) as process:  # noqa: S603 (our own command)
        memory = peak(process)
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(process.returncode)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor_s": processor_s, "memory_mb": memory}


def measured_rows(
    kind: str, counts: list[int], arguments: argparse.Namespace, texts: list[str], folder: Path
) -> dict[str, dict[str, float]]:
    """Return the figures for every number of rows; microseconds per row leave out what a file of one row takes."""
    start = {} if kind == "ray" else measure(kind, 1, arguments, texts, folder)
    results = {}
    for count in counts:
        row = measure(kind, count, arguments, texts, folder)
        row["rows_per_s"] = count / row["seconds"]
        if start:
            row["start_s"] = start["seconds"]
            row["us_per_row"] = 1e6 * (row["seconds"] - start["seconds"]) / count
            row["processor_us_per_row"] = 1e6 * (row["processor_s"] - start["processor_s"]) / count
        results[str(count)] = row
    return results


def peak(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process and return its peak memory in MB, as counted until shortly before its end."""
    status, peak_mb = Path(f"/proc/{process.pid}/status"), 0.0
    while process.poll() is None:
        if status.exists() and "VmHWM:" in (content := status.read_text()):
            peak_mb = int(content.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
        time.sleep(POLL_S)
    return peak_mb


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="folder that --mode export wrote")
    parser.add_argument("--texts", type=Path, required=True, help="file of texts, one per line")
    parser.add_argument("--rows", default="1000000", help="rows of each file; several numbers separated by commas")
    parser.add_argument("--formats", default=",".join(FORMATS), help="formats to measure, separated by commas")
    parser.add_argument("--threads", type=int, default=0, help="processor threads, and workers of ray; 0: one per core")
    parser.add_argument("--odd", type=float, default=0.0, help="share of the rows of a table that are unusual or bad")
    parser.add_argument("--name", default="predict_files", help="of the files that are written")
    arguments = parser.parse_args()
    texts = [
        text for line in arguments.texts.read_text("utf-8").split("\n") if (text := line.replace("\t", " ").strip())
    ]
    kinds = [kind for kind in arguments.formats.split(",") if kind != "ray" or find_spec("ray")]
    counts = [int(count) for count in arguments.rows.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        measured = {kind: measured_rows(kind, counts, arguments, texts, Path(folder)) for kind in kinds}
    card = json.loads(Path(arguments.bundle, "bundle.json").read_text("utf-8"))
    threads = arguments.threads or os.cpu_count()
    network = " ".join(card["network"][key] for key in ("architecture", "cell") if key in card["network"])
    machine = {"processor": processor(), "threads": threads, "network": network, "odd": arguments.odd}
    save(arguments.name, measured, machine)


def save(name: str, measured: dict[str, dict[str, dict[str, float]]], machine: dict[str, Any]) -> None:
    """Write the table and the figures."""
    table = [["format", "rows", "seconds", "rows/s", "µs per row", "of the processors", "MB of memory"]]
    for kind, results in measured.items():
        for count, row in results.items():
            format_name = "Parquet, `--engine ray`" if kind == "ray" else kind
            further = [f"{row[key]:.1f}" if key in row else "" for key in ("us_per_row", "processor_us_per_row")]
            memory = "" if kind == "ray" else f"{row['memory_mb']:.0f}"
            shown = [f"{int(count):,}", f"{row['seconds']:.1f}", f"{row['rows_per_s']:,.0f}"]
            table.append([format_name, *shown, *further, memory])
    odd = f" {machine['odd']:.0%} of the rows are unusual." if machine["odd"] else ""
    note = f"Headlines, {machine['network']}, {machine['threads']} threads, {machine['processor']}.{odd} "
    note += "Seconds are of the whole command; the µs per row leave out its start."
    publish(HERE / "predict_files" / name, table, note, {"machine": machine, "rows": measured})


if __name__ == "__main__":
    main()
