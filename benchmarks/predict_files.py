"""Measure rows per second and memory of ``--mode predict`` on a file of headlines in every format.

python benchmarks/predict_files.py --bundle runs/news/bundle --texts headlines.txt --rows 1000000

Each format is labelled by one command in a fresh process. Every row is a text of --texts followed by a running number,
so that no two rows are equal. If ray is installed, ``--engine ray`` labels the same rows as Parquet on a cluster of
this machine, including the start of the cluster. Writes benchmarks/predict_files/predict_files.json and .md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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


def measure(kind: str, arguments: argparse.Namespace, texts: list[str], folder: Path) -> dict[str, float]:
    """Return seconds of the whole command, rows per second, and peak memory of its process in MB (10^6 bytes)."""
    source = write(folder / f"in.{kind}", texts, arguments.rows)
    command = [sys.executable, str(HERE.parent / "distill.py"), "--mode", "predict", "--bundle", arguments.bundle]
    flags = ["--input", str(source), "--output", str(folder / f"out.{kind}"), "--threads", str(arguments.threads)]
    started = time.perf_counter()
    engine = ["--engine", "ray"] if kind == "ray" else []
    with subprocess.Popen([*command, *flags, *engine]) as process:  # noqa: S603 (our own command)
        memory = peak(process)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(process.returncode)
    return {"seconds": seconds, "rows_per_s": arguments.rows / seconds, "memory_mb": memory}


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
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of each file")
    parser.add_argument("--formats", default=",".join(FORMATS), help="formats to measure, separated by commas")
    parser.add_argument("--threads", type=int, default=0, help="processor threads, and workers of ray; 0: one per core")
    arguments = parser.parse_args()
    texts = [
        text for line in arguments.texts.read_text("utf-8").split("\n") if (text := line.replace("\t", " ").strip())
    ]
    kinds = [kind for kind in arguments.formats.split(",") if kind != "ray" or find_spec("ray")]
    with tempfile.TemporaryDirectory() as folder:
        measured = {kind: measure(kind, arguments, texts, Path(folder)) for kind in kinds}
    card = json.loads(Path(arguments.bundle, "bundle.json").read_text("utf-8"))
    threads = arguments.threads or os.cpu_count()
    network = card["network"]["architecture"]
    save(measured, {"processor": processor(), "threads": threads, "rows": arguments.rows, "network": network})


def save(measured: dict[str, dict[str, float]], machine: dict[str, Any]) -> None:
    """Write the table and the figures."""
    table = [["format", "seconds", "rows/s", "MB of memory"]]
    for kind, row in measured.items():
        name = "Parquet, `--engine ray`" if kind == "ray" else kind
        memory = "" if kind == "ray" else f"{row['memory_mb']:.0f}"
        table.append([name, f"{row['seconds']:.1f}", f"{row['rows_per_s']:,.0f}", memory])
    note = f"{machine['rows']:,} headlines, {machine['network']}, {machine['threads']} threads, {machine['processor']}."
    publish(HERE / "predict_files" / "predict_files", table, note, {"machine": machine, "rows": measured})


if __name__ == "__main__":
    main()
