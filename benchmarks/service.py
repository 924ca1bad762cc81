"""Measure the service under load: wrk sends single texts for a minute, and its memory is read every second.

python benchmarks/service.py --bundle runs/news/bundle --texts ../shared/data/unlabeled_headlines.txt --workers 1 2 4

wrk (Debian: apt install wrk) runs on the same machine. Every request has the next text of the file. For each number of
workers, a fresh service is started. Before the measurement every worker labels about all texts, because a word's input
projection is computed when the word first occurs and then kept. Memory is that of all processes together; pages that
they share count once. Writes benchmarks/service/service.json and .md. Linux only (memory is read from /proc).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.error import URLError
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from published import publish  # noqa: E402

from distill.evaluation.timing import processor  # noqa: E402

CHUNK = 1000  # texts per request during warm-up
PERCENTILES = (50, 90, 99, 99.9)
SCRIPT = """
local bodies, at = {}, 0
for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = line end
local pause = tonumber(os.getenv("PAUSE_MS"))
if pause then
  function delay() return pause end
end
wrk.method, wrk.path, wrk.headers["Content-Type"] = "POST", "/predict", "application/json"
function request()
  at = at % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[at])
end
function done(summary, latency)
  local e = summary.errors
  local figures = string.format('"requests":%d,"microseconds":%d,"errors":%d,"max":%d', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout, latency.max)
  for _, p in ipairs({50, 90, 99, 99.9}) do
    figures = figures .. string.format(',"%g":%d', p, latency:percentile(p))
  end
  print("JSON{" .. figures .. "}")
end
"""


@contextlib.contextmanager
def service(bundle: Path, *flags: str, log: IO[str] | None = None) -> Iterator[tuple[int, str]]:
    """Start a fresh service and yield its process id and address; at the end, stop it and check its exit code."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["--mode", "serve", "--bundle", str(bundle), "--port", str(port), "--with_teacher", "no", *flags]
    process = subprocess.Popen([sys.executable, str(HERE.parent / "distill.py"), *command], stderr=log)  # noqa: S603
    try:
        _wait(f"http://127.0.0.1:{port}/ready", process)
        yield process.pid, f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        if process.wait(30):
            raise SystemExit(f"the service ended with {process.returncode}")


def _wait(url: str, process: subprocess.Popen[bytes], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            urlopen(url)  # noqa: S310
            return
        except URLError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.1)


def processes(pid: int) -> list[int]:
    """Return a process and its workers."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def memory(pid: int) -> float:
    """Return the memory of a process and its workers in MB: of a page that n of them share, each has 1/n (PSS)."""
    kilobytes = 0
    for one in processes(pid):
        lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        kilobytes += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes / 1024


def processor_seconds(pid: int) -> float:
    """Return the processor time, of the user and of the system, that a process and its workers have used."""
    ticks = 0
    for one in processes(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def sampled(pid: int, stop: threading.Event) -> list[float]:
    """Return a list of the memory in MB that grows by one value per second until ``stop`` is set."""
    samples = [memory(pid)]

    def sample() -> None:
        while not stop.wait(1):
            samples.append(memory(pid))

    threading.Thread(target=sample, daemon=True).start()
    return samples


def warm_up(url: str, texts: list[str]) -> None:
    """Label every text once."""
    for first in range(0, len(texts), CHUNK):
        body = json.dumps({"texts": texts[first : first + CHUNK]}).encode()
        urlopen(Request(f"{url}/predict", body)).read()  # noqa: S310


def load(url: str, texts: list[str], seconds: int, connections: int, pause_ms: float = 0) -> dict[str, float]:
    """Run wrk and return what it measures; times in microseconds. Every connection pauses before each request."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is not installed -> apt install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script, bodies = Path(folder, "post.lua"), Path(folder, "bodies.jsonl")
        script.write_text(SCRIPT, encoding="utf-8")
        bodies.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
        command = [wrk, "-t2", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script), url]
        environment = {**os.environ, "BODIES": str(bodies)} | ({"PAUSE_MS": f"{pause_ms:g}"} if pause_ms else {})
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    return dict(json.loads(done.stdout.rpartition("JSON")[2]))


def measure(arguments: argparse.Namespace, texts: list[str], workers: int) -> dict[str, Any]:
    """Measure one row of the table."""
    with service(arguments.bundle, "--workers", str(workers)) as (pid, url):
        started = memory(pid)
        for _ in range(workers if workers == 1 else 2 * workers):  # the requests go to the workers at random
            warm_up(url, texts)
        stop = threading.Event()
        samples = sampled(pid, stop)
        used = processor_seconds(pid)
        latency = load(url, texts, arguments.seconds, arguments.connections)
        used = processor_seconds(pid) - used
        stop.set()
    return {
        "workers": workers,
        "texts": len(texts),
        "connections": arguments.connections,
        "seconds": latency["microseconds"] / 1e6,
        "requests": latency["requests"],
        "requests_per_s": 1e6 * latency["requests"] / latency["microseconds"],
        "processor_us_per_request": 1e6 * used / latency["requests"],
        **{f"p{percent:g}_ms": latency[f"{percent:g}"] / 1000 for percent in PERCENTILES},
        "max_ms": latency["max"] / 1000,
        "errors": latency["errors"],
        "memory_mb": {"fresh": started, "start": samples[0], "middle": samples[len(samples) // 2], "end": samples[-1]},
        "memory_each_second_mb": samples,
    }


def cells_of(row: dict[str, Any]) -> dict[str, str]:
    """Return a row of the table by column."""
    return {
        "workers": str(row["workers"]),
        "requests/s": f"{row['requests_per_s']:,.0f}",
        "processor, µs per request": f"{row['processor_us_per_request']:.0f}",
        **{f"p{percent:g}, ms": f"{row[f'p{percent:g}_ms']:.1f}" for percent in PERCENTILES},
        "longest, ms": f"{row['max_ms']:.1f}",
        "errors": f"{row['errors']:,}",
        **{f"memory, {when}, MB": f"{value:.0f}" for when, value in row["memory_mb"].items()},
    }


def write(rows: list[dict[str, Any]]) -> None:
    """Write the table and the figures."""
    first, cells = rows[0], [cells_of(row) for row in rows]
    note = (
        f"Requests of one text for {first['seconds']:.0f} s over {first['connections']} connections, cycling through "
        f"{first['texts']:,} texts; wrk on the same {len(os.sched_getaffinity(0))} cores, {processor()}. Memory of all "
        "processes, shared pages counted once: fresh; then, after the texts were labelled, at start, middle and end of "
        "the load."
    )
    table = [list(cells[0]), *(list(row.values()) for row in cells)]
    publish(HERE / "service" / "service", table, note, {"processor": processor(), "rows": rows})


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the student's bundle")
    parser.add_argument("--texts", type=Path, required=True, help="file of texts, one per line")
    parser.add_argument("--most", type=int, default=20_000, help="maximum number of texts to use")
    parser.add_argument("--seconds", type=int, default=60, help="duration of the load")
    parser.add_argument("--connections", type=int, default=32, help="concurrent requests")
    parser.add_argument("--workers", type=int, nargs="+", default=[1], help="numbers of worker processes to measure")
    arguments = parser.parse_args()
    lines = arguments.texts.read_text(encoding="utf-8").splitlines()
    texts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))[: arguments.most]
    write([measure(arguments, texts, workers) for workers in arguments.workers])


if __name__ == "__main__":
    main()
