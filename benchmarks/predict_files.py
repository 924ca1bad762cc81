"""Rows a second and memory of ``--mode predict``: a file of headlines in every format, labelled in a fresh process.

python benchmarks/predict_files.py --bundle runs/news/bundle --texts headlines.txt --rows 1000000

Every text is one of --texts and a running number, so that no row is like another. With ray installed, ``--engine ray``
labels the same rows as Parquet, on a cluster of this machine; its start counts. Writes
benchmarks/predict_files/predict_files.json and .md.
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
FILES = 8  # of the rows for --engine ray
GROUP = 2**17  # rows of a Parquet file's group
LOOK_S = 0.05


def rows(texts: list[str], count: int) -> Iterator[tuple[int, str]]:
    """Numbered texts, as many as asked for."""
    return ((number, f"{text} {number}") for number, text in enumerate(islice(cycle(texts), count)))


def write(path: Path, texts: list[str], count: int) -> Path:
    """The rows as a file of the format that its name says; for ray a folder of several."""
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


def measure(kind: str, given: argparse.Namespace, texts: list[str], folder: Path) -> dict[str, float]:
    """Seconds of the whole command, rows a second, and the most memory of its process in MB (10^6)."""
    source = write(folder / f"in.{kind}", texts, given.rows)
    command = [sys.executable, str(HERE.parent / "distill.py"), "--mode", "predict", "--bundle", given.bundle]
    flags = ["--input", str(source), "--output", str(folder / f"out.{kind}"), "--threads", str(given.threads)]
    started = time.perf_counter()
    engine = ["--engine", "ray"] if kind == "ray" else []
    with subprocess.Popen([*command, *flags, *engine]) as process:  # noqa: S603 (our own command)
        memory = peak(process)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(process.returncode)
    return {"seconds": seconds, "rows_per_s": given.rows / seconds, "memory_mb": memory}


def peak(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; the most memory it held, as the system counted until shortly before its end."""
    status, most = Path(f"/proc/{process.pid}/status"), 0.0
    while process.poll() is None:
        if status.exists() and "VmHWM:" in (told := status.read_text()):
            most = int(told.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
        time.sleep(LOOK_S)
    return most


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True, help="folder that --mode export wrote")
    parser.add_argument("--texts", type=Path, required=True, help="file of texts, one a line")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of every file")
    parser.add_argument("--formats", default=",".join(FORMATS), help="which are measured, separated by commas")
    parser.add_argument("--threads", type=int, default=0, help="processor threads, and ray's workers; 0: one per core")
    given = parser.parse_args()
    texts = [text for line in given.texts.read_text("utf-8").split("\n") if (text := line.replace("\t", " ").strip())]
    kinds = [kind for kind in given.formats.split(",") if kind != "ray" or find_spec("ray")]
    with tempfile.TemporaryDirectory() as folder:
        found = {kind: measure(kind, given, texts, Path(folder)) for kind in kinds}
    card = json.loads(Path(given.bundle, "bundle.json").read_text("utf-8"))
    threads = given.threads or os.cpu_count()
    network = card["network"]["architecture"]
    save(found, {"processor": processor(), "threads": threads, "rows": given.rows, "network": network})


def save(found: dict[str, dict[str, float]], machine: dict[str, Any]) -> None:
    """The table and the figures."""
    table = [["format", "seconds", "rows/s", "MB of memory"]]
    for kind, row in found.items():
        name = "Parquet, `--engine ray`" if kind == "ray" else kind
        memory = "" if kind == "ray" else f"{row['memory_mb']:.0f}"
        table.append([name, f"{row['seconds']:.1f}", f"{row['rows_per_s']:,.0f}", memory])
    said = f"{machine['rows']:,} headlines, {machine['network']}, {machine['threads']} threads, {machine['processor']}."
    publish(HERE / "predict_files" / "predict_files", table, said, {"machine": machine, "rows": found})


if __name__ == "__main__":
    main()
