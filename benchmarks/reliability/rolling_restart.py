"""Restart two processes in turn behind nginx while clients send requests: none may be lost.

python benchmarks/reliability/rolling_restart.py --bundle runs/news/bundle

Uses nginx (Debian: apt install nginx-light) with the configuration in docs/service.md. A request is lost if its status
is not 200 or its connection fails. Writes benchmarks/reliability/rolling_restart.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "tests" / "serve")]

from jobs import command_line, machine  # noqa: E402
from serving import Served, until  # noqa: E402
from test_nginx import configuration, free_ports  # noqa: E402

BODY = json.dumps({"text": "银行股票大涨"}).encode()
PER_CONNECTION = 200  # requests


class Clients:
    """Threads that send ``total`` requests to nginx; ``results`` counts their statuses and errors."""

    def __init__(self, port: int, total: int, threads: int) -> None:
        self.port, self.results, self._left, self._lock = port, Counter[str](), total, threading.Lock()
        self.threads = [threading.Thread(target=self._work) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _work(self) -> None:
        while self._left > 0:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            for _ in range(PER_CONNECTION):
                if not self._take():
                    break
                try:
                    connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    response.read()
                    result = str(response.status)
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    result = type(error).__name__
                with self._lock:
                    self.results[result] += 1
            connection.close()

    @property
    def are_busy(self) -> bool:
        """Whether requests are still being sent."""
        return any(thread.is_alive() for thread in self.threads)


def main() -> int:
    """Send the requests and write the figures; 1 if a request was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--output", type=Path, default=HERE / "rolling_restart.json")
    options = parser.parse_args()
    started, restarts = time.monotonic(), 0
    port, *ports = free_ports(3)
    services = [Served(options.bundle, [], "--port", str(own)) for own in ports]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nginx.conf").write_text(configuration(ports, port, Path(folder)), encoding="utf-8")
        nginx = subprocess.Popen(["nginx", "-c", f"{folder}/nginx.conf", "-p", folder])  # noqa: S603, S607
        until(lambda: Path(folder, "pid").exists())
        clients = Clients(port, options.requests, options.clients)
        while clients.are_busy:
            index = restarts % 2
            if services[index].stop():
                raise SystemExit(f"the service ended with {services[index].process.returncode}")
            services[index] = Served(options.bundle, [], "--port", str(ports[index]))
            restarts += 1
        nginx.terminate()
        nginx.wait()
    for service in services:
        service.stop()
    record = {
        "command": command_line("rolling_restart.py"),
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - started),
        "requests": sum(clients.results.values()),
        "lost": sum(clients.results.values()) - clients.results["200"],
        "results": dict(clients.results),
        "restarts": restarts,
    }
    options.output.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(f"{record['requests']:,} requests, {restarts} restarts, {record['lost']} lost: {record['results']}")
    return 1 if record["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
