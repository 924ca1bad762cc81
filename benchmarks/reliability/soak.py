"""Keep the service at half load for an hour: latency and memory of every minute.

python benchmarks/reliability/soak.py --bundle runs/news/bundle --texts ../shared/data/unlabeled_headlines.txt

wrk (Debian: apt install wrk) first measures how many requests the service answers at most, and then sends half as many.
--seconds makes it shorter. Memory must not grow by more than 5 % and p99 not to more than twice that of the first
minute. Writes benchmarks/reliability/soak.json. Linux only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import service  # noqa: E402
from jobs import command_line, machine  # noqa: E402

CONNECTIONS = 16


def minutes(url: str, pid: int, texts: list[str], options: argparse.Namespace) -> tuple[float, list[dict[str, Any]]]:
    """Requests per second at full load, and the figures of each minute at half load."""
    service.warm_up(url, texts)
    full = service.load(url, texts, options.calibration, CONNECTIONS)
    rate = 1e6 * full["requests"] / full["microseconds"]
    pause_ms = 1000 * CONNECTIONS / (rate / 2) - full["50"] / 2000  # a request takes about half as long as at full load
    rows = []
    for _ in range(max(1, options.seconds // options.minute)):
        figures = service.load(url, texts, options.minute, CONNECTIONS, max(1.0, pause_ms))
        row = {
            "requests": figures["requests"],
            "errors": figures["errors"],
            "p50_ms": figures["50"] / 1000,
            "p99_ms": figures["99"] / 1000,
            "max_ms": figures["max"] / 1000,
            "memory_mb": round(service.memory(pid), 1),
        }
        rows.append(row)
        print(row, flush=True)
    return rate, rows


def main() -> int:
    """Run the load and write the figures; 1 if a request failed, or latency or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True, help="file of texts, one per line")
    parser.add_argument("--seconds", type=int, default=3600)
    parser.add_argument("--minute", type=int, default=60, help="seconds of a measurement")
    parser.add_argument("--calibration", type=int, default=10, help="seconds at full load")
    parser.add_argument("--output", type=Path, default=HERE / "soak.json")
    options = parser.parse_args()
    lines = options.texts.read_text(encoding="utf-8").splitlines()
    texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    started = time.monotonic()
    with service.service(options.bundle) as (pid, url):
        rate, rows = minutes(url, pid, texts, options)
    quarter = max(1, len(rows) // 4)
    record = {
        "command": command_line("soak.py"),
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - started),
        "full_load_requests_per_s": round(rate),
        "requests_per_s": round(sum(row["requests"] for row in rows) / (len(rows) * options.minute)),
        "requests": sum(row["requests"] for row in rows),
        "errors": sum(row["errors"] for row in rows),
        "p99_ms": {
            "first quarter": median(row["p99_ms"] for row in rows[:quarter]),
            "last quarter": median(row["p99_ms"] for row in rows[-quarter:]),
        },
        "memory_mb": {"first": rows[0]["memory_mb"], "last": rows[-1]["memory_mb"]},
        "minutes": rows,
    }
    options.output.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    p99, memory = record["p99_ms"], record["memory_mb"]
    is_flat = p99["last quarter"] <= 2 * p99["first quarter"] and memory["last"] <= 1.05 * memory["first"]
    print(f"{record['requests']:,} requests, {record['errors']} errors, p99 {p99}, memory {memory}")
    return 0 if is_flat and not record["errors"] else 1


if __name__ == "__main__":
    sys.exit(main())
