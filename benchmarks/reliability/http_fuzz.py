"""Send 20,000 random requests to the service, from valid ones to garbage: no error of the service, no text in its log.

python benchmarks/reliability/http_fuzz.py --bundle runs/news/bundle

Methods, addresses, headers, JSON, bodies of wrong lengths, broken chunks, truncated and pipelined requests, and damaged
files of every format. Every text contains a marker, which must not occur in the log or in a refusal. Every so often, a
sound request must be answered with the right label, and memory is read. Writes benchmarks/reliability/http_fuzz.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import service  # noqa: E402
from jobs import command_line, machine  # noqa: E402

MARK = "机密"
MARKS = (
    MARK,
    json.dumps(MARK)[1:-1],
    quote(MARK),
    quote(MARK).lower(),
    repr(MARK.encode())[2:-1],
    MARK.encode("gb18030").decode("latin-1"),
)
SOUND = {"text": "国足今晚迎战对手"}
FLAGS = (
    "--access_log",
    "--wait",
    "0.5",
    "--most_bytes",
    "100000",
    "--allow_reload",
    "--allow_origin",
    "http://a.example",
)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
EVERY = 1000  # requests between two readings of the memory
TIMEOUT_S = 3


class Generator:
    """Random requests from a seed, as the parts in which they are sent."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds: list[Callable[[], list[bytes]]] = [
            self.valid,
            self.json,
            self.json,
            self.file,
            self.file,
            self.address,
            self.headers,
            self.lengths,
            self.chunks,
            self.truncated,
            self.pipelined,
            self.garbage,
        ]

    def request(self) -> list[bytes]:
        """The next request."""
        return self.random.choice(self.kinds)()

    def text(self) -> str:
        """A text with the marker and any characters."""
        letters = "球队股票手机 aA1,，。\"'\\\t\n\r\0\u200b🙂\u0301İ\ufeff"
        return MARK + "".join(self.random.choices(letters, k=self.random.choice((0, 1, 5, 20, 300))))

    def post(self, path: str, body: bytes, *headers: str) -> bytes:
        """A sound POST request."""
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: localhost",
            "Connection: close",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def valid(self) -> list[bytes]:
        """Texts to be classified or explained."""
        if self.random.random() < 0.3:
            return [self.post("/explain", json.dumps({"text": self.text()}).encode())]
        texts = [self.text() for _ in range(self.random.choice((1, 2, 30)))]
        content: dict[str, Any] = {"text": texts[0]} if len(texts) == 1 else {"texts": texts}
        return [self.post("/predict", json.dumps(content | {"probabilities": self.random.random() < 0.5}).encode())]

    def value(self, depth: int = 0) -> Any:
        """Any JSON value."""
        scalars = [None, True, self.text(), "\ud800", 10**400, -0.0, float("nan"), float("inf"), "", {}, []]
        if depth > 4 or self.random.random() < 0.5:
            return self.random.choice(scalars)
        values = [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        if self.random.random() < 0.5:
            return values
        return {self.random.choice(("text", "texts", "probabilities", self.text())): value for value in values}

    def json(self) -> list[bytes]:
        """JSON that is valid, too deep, too large, damaged or in another encoding."""
        path = self.random.choice(("/predict", "/explain"))
        bodies: list[Callable[[], bytes]] = [
            lambda: json.dumps(self.value()).encode(),
            lambda: json.dumps({"text": self.value(), "texts": self.value()}, ensure_ascii=True).encode(),
            lambda: b'{"text":' + b"[" * self.random.choice((50, 300, 30_000)),
            lambda: b'{"text":' + b"9" * self.random.choice((400, 5000, 90_000)) + b"}",
            lambda: json.dumps({f"{MARK}{n}": n for n in range(self.random.choice((5, 100, 5000)))}).encode(),
            lambda: json.dumps({"texts": [self.text()] * self.random.choice((1, 1025, 3000))}).encode(),
            lambda: json.dumps({"text": self.text()}).encode(self.random.choice(("utf-16", "utf-8-sig", "utf-32"))),
            lambda: self.damaged(json.dumps({"text": self.text()}, ensure_ascii=False).encode()),
        ]
        return [self.post(path, self.random.choice(bodies)())]

    def damaged(self, content: bytes) -> bytes:
        """Some bytes changed, removed or added."""
        damaged = bytearray(content)
        for _ in range(self.random.choice((0, 1, 3, 30))):
            if not damaged:
                break
            position = self.random.randrange(len(damaged))
            match self.random.randrange(4):
                case 0:
                    damaged[position] = self.random.randrange(256)
                case 1:
                    del damaged[position : position + self.random.choice((1, 20))]
                case 2:
                    damaged[position:position] = self.random.randbytes(self.random.choice((1, 9)))
                case _:
                    damaged[position:position] = self.random.choice(
                        (b'"', b",", b"\t", b"\n", b"\r", b"[", b"}", b"\0")
                    )
        return bytes(damaged)

    def file(self) -> list[bytes]:
        """A damaged file of any format, encoding and name."""
        rows = [self.text() for _ in range(self.random.choice((0, 1, 3, 40)))]
        column = self.random.choice(("text", "标题", MARK, "predicted"))
        contents: dict[str, Callable[[], str]] = {
            "csv": lambda: f"id,{column}\n" + "".join(f'{n},"{row}"\n' for n, row in enumerate(rows)),
            "tsv": lambda: f"{column}\tx\n" + "".join(f"{row}\t1\n" for row in rows),
            "jsonl": lambda: "".join(json.dumps({column: row}) + "\n" for row in rows),
            "json": lambda: json.dumps([{column: row, "n": self.value(3)} for row in rows]),
            "txt": lambda: "\n".join(rows),
        }
        suffix = self.random.choice((*contents, "xlsx", "parquet", "exe", ""))
        content = contents.get(suffix, contents["csv"])()
        encoding = self.random.choice(("utf-8", "utf-8", "utf-8", "gb18030", "big5", "utf-16", "utf-8-sig"))
        raw = self.damaged(content.encode(encoding, "replace"))
        raw = self.random.choice((b"", b"", b"", b"PAR1", b"PK\x03\x04", b"\xd0\xcf\x11\xe0")) + raw
        if self.random.random() < 0.05:
            raw = gzip.compress(raw)
        query = self.random.choice(
            ("", "", "&probabilities=true", "&probabilities=maybe", "&text_column=2", "&text_column=x")
        )
        return [self.post(f"/label_file?name=a.{suffix}{query}", raw)]

    def address(self) -> list[bytes]:
        """Any method and address."""
        methods = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "X", "")
        paths = (
            "/",
            "/ready",
            "/docs",
            "/metrics",
            "/page/main.js",
            "/openapi.json",
            "/reload",
            "*",
            "//",
            "/..",
            "/%00",
            "/%ff",
        )
        odd = (
            "http://a.example/",
            "/page/..%2f..%2fapp.py",
            "/page/%2e%2e/app.py",
            "/" + "a" * 9000,
            "?",
            "/predict/",
            "/label_file?",
        )
        path = self.random.choice(
            (*paths, *odd, "/" + quote(self.random.randbytes(9)), f"/{self.random.random()}?name=%")
        )
        version = self.random.choice(("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2", "http/1.1", ""))
        lines = [f"{self.random.choice(methods)} {path} {version}", "Host: localhost", "Connection: close", "", ""]
        return ["\r\n".join(lines).encode()]

    def headers(self) -> list[bytes]:
        """Any headers: odd, many, large, repeated."""
        known = (
            "Host: evil.example",
            "Host: [",
            "Host:",
            "Origin: null",
            "Origin: http://a.example",
            "Origin: http://localhost",
            "Content-Type: multipart/form-data; boundary=x",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: gzip, chunked",
            "Content-Length: 5",
            "Content-Length: " + "9" * self.random.choice((10, 25, 5000)),
            "Content-Encoding: gzip",
            "Expect: 100-continue",
            "Upgrade: websocket\r\nConnection: upgrade",
            "Authorization: Basic !!!",
            "Access-Control-Request-Method: POST",
            "Range: bytes=0-1,5-",
            "If-Modified-Since: yesterday",
            " folded",
            "no colon",
            "a: " + "b" * self.random.choice((100, 9000, 40_000)),
            "\r\n".join(f"h{n}: {n}" for n in range(self.random.choice((5, 99, 300)))),
            f"a: {self.random.randbytes(5).decode('latin-1')}",
        )
        chosen = self.random.choices(known, k=self.random.randrange(1, 6))
        first = self.random.choice(
            ("POST /predict HTTP/1.1", "GET /page/main.js HTTP/1.1", "OPTIONS /predict HTTP/1.1")
        )
        body = json.dumps({"text": self.text()}).encode()
        return ["\r\n".join([first, *chosen, "Connection: close", "", ""]).encode("latin-1"), body]

    def lengths(self) -> list[bytes]:
        """A body that is shorter or longer than it says."""
        body = json.dumps({"text": self.text()}).encode()
        length = self.random.choice(
            (0, len(body) - 1, len(body) + 1, len(body) + 1000, 10**6, -1, "1e3", "0x5", " 5 ", "5, 5")
        )
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        return [head.encode() + body]

    def chunks(self) -> list[bytes]:
        """A body in chunks, sound or broken."""
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        body, parts = json.dumps({"text": self.text()}).encode(), []
        while body:
            size = self.random.choice((1, 3, 50))
            stated = self.random.choice(
                (b"%x" % len(body[:size]),) * 9 + (b"zz", b"-1", b"", b"fffffffffffffffff", b"1;a=b")
            )
            parts.append(stated + b"\r\n" + body[:size] + b"\r\n")
            body = body[size:]
        end = self.random.choice((b"0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"", b"0\r\n" + b"a" * 20_000))
        return [head, *parts, end]

    def truncated(self) -> list[bytes]:
        """The beginning of a request; an empty part at the end closes the connection."""
        whole = b"".join(self.random.choice((self.valid, self.json, self.file, self.headers))())
        return [whole[: self.random.randrange(1, len(whole))], b""]

    def pipelined(self) -> list[bytes]:
        """Several requests on one connection."""
        requests = [part for _ in range(self.random.randrange(2, 9)) for part in self.random.choice(self.kinds[:5])()]
        joined = b"".join(requests[:-1]).replace(b"Connection: close\r\n", b"") + requests[-1]
        return [joined * self.random.choice((1, 1, 1, 20))]

    def garbage(self) -> list[bytes]:
        """Bytes that are no request."""
        return [self.random.randbytes(self.random.choice((1, 100, 70_000))) + b"\r\n\r\n", b""]


def exchange(port: int, parts: list[bytes]) -> bytes:
    """Send the parts of a request and return what comes back until the connection ends."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        try:
            for part in parts:
                if not part:
                    return answer
                connection.sendall(part)
            while received := connection.recv(2**16):
                answer += received
        except OSError:
            pass
    return answer


class Run:
    """The requests of one run and what came back."""

    def __init__(self, url: str, pid: int, options: argparse.Namespace) -> None:
        self.url, self.pid, self.options = url, pid, options
        self.statuses, self.memory_mb, self.failures = Counter[str](), [service.memory(pid)], list[str]()
        self._left, self._lock = options.requests, threading.Lock()

    def _take(self) -> int:
        """The number of the next request; 0: there is none."""
        with self._lock:
            number, self._left = self._left, max(0, self._left - 1)
        if number and number % EVERY == 0:
            self.memory_mb.append(round(service.memory(self.pid), 1))
            label = json.loads(urlopen(Request(f"{self.url}/predict", json.dumps(SOUND).encode())).read())["label"]  # noqa: S310
            print(f"{number:,} left, {self.memory_mb[-1]} MB, {label}, {dict(self.statuses)}", flush=True)
        return number

    def work(self) -> None:
        """Send requests until enough were sent."""
        port = int(self.url.rpartition(":")[2])
        while number := self._take():
            parts = Generator(self.options.seed * 10**7 + number).request()
            answer = exchange(port, parts)
            statuses = [status.decode() for status in STATUS.findall(answer)]
            failed = [status for status in statuses if status[0] == "5" and status != "503"]
            is_repeated = any(mark.encode() in answer for mark in MARKS[:2]) and set(statuses) <= {"400", "403", "422"}
            with self._lock:
                self.statuses.update(statuses or ["none"])
                if failed or (statuses and is_repeated):
                    what = "text repeated" if is_repeated else f"status {failed}"
                    self.failures.append(f"{number}: {what}: {b' '.join(parts)[:300]!r} -> {answer[-300:]!r}")


def main() -> int:
    """Send the requests and write the figures; 1 if the service failed, logged a text, or its memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "http_fuzz.json")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        with service.service(options.bundle, *FLAGS, log=log) as (pid, url):
            run = Run(url, pid, options)
            clients = [threading.Thread(target=run.work) for _ in range(options.clients)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            run.memory_mb.append(round(service.memory(pid), 1))
        log.seek(0)
        lines = log.read().splitlines()
    logged = [line for line in lines if any(mark in line for mark in MARKS)]
    middle = run.memory_mb[len(run.memory_mb) // 2]
    record = {
        "command": command_line("http_fuzz.py"),
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - started),
        "requests": options.requests,
        "statuses": dict(sorted(run.statuses.items())),
        "failures": run.failures[:20],
        "tracebacks_in_log": sum("Traceback" in line or "internal error" in line for line in lines),
        "texts_in_log": len(logged),
        "memory_mb": {"first": run.memory_mb[0], "middle": middle, "last": run.memory_mb[-1], "all": run.memory_mb},
    }
    options.output.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    print(*run.failures[:20], *logged[:5], sep="\n")
    if record["tracebacks_in_log"]:
        print(*lines[-60:], sep="\n")
    is_flat = run.memory_mb[-1] <= 1.1 * middle
    print(f"{options.requests:,} requests, {len(run.failures)} failures, {record['statuses']}, memory flat: {is_flat}")
    return 0 if is_flat and not run.failures and not logged and not record["tracebacks_in_log"] else 1


if __name__ == "__main__":
    sys.exit(main())
