"""Helpers for the tests of the service: a classifier that waits, clients, and a service in a process of its own."""

from __future__ import annotations

import atexit
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
from numpy.typing import NDArray
from starlette import testclient

ROOT = Path(__file__).parents[2]
# Packages that the extra serve does not install; those of the second list are optional as well.
NOT_NEEDED = [
    "torch",
    "transformers",
    "pandas",
    "pyarrow",
    "jieba",
    "gensim",
    "scipy",
    "sklearn",
    "matplotlib",
    "safetensors",
]
OPTIONAL = ["uvloop", "httptools"]
WITHOUT = (
    "import sys; sys.modules.update(dict.fromkeys({names})); {before}\n"
    "from distill.cli import main; sys.exit(main({flags}))"
)


class Stub:
    """A classifier that predicts its first class, after ``released`` is set; stands in for student or teacher."""

    labels: tuple[str, ...] = ("体育", "财经")
    temperature = 1.0
    examples: tuple[str, ...] = ()

    def __init__(self, labels: tuple[str, ...] = labels, *, waits: bool = True) -> None:
        self.labels = labels
        self.released, self.called = threading.Event(), threading.Event()
        if not waits:
            self.released.set()

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.called.set()
        assert self.released.wait(10)
        row = [0.75] + [0.25 / (len(self.labels) - 1)] * (len(self.labels) - 1)
        return np.tile(np.array([row], np.float32), (len(texts), 1))

    def segment(self, texts: Sequence[str]) -> list[list[str]]:
        return [list(text) for text in texts]


class Broken(Stub):
    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise ValueError(f"broken: {texts[0]}")


class TestClient(testclient.TestClient):
    """A client that names a host that the service answers to."""

    __test__ = False

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **{"base_url": "http://localhost", **options})


def async_client(app: Any) -> Any:
    """A client for concurrent requests in one event loop."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://localhost"
    )


def refusal(answer: Any, status: int) -> str:
    """The error of a refusal, whose form is checked."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "hint"} and all(answer.json().values())
    return str(answer.json()["error"])


class Served:
    """A service in a process of its own, in which the ``missing`` packages cannot be imported.

    ``before`` is Python that runs first.
    """

    def __init__(self, bundle: Path, missing: Sequence[str], *flags: str, before: str = "") -> None:
        arguments = [
            "--mode",
            "serve",
            "--bundle",
            str(bundle),
            *([] if "--port" in flags else ["--port", "0"]),
            *flags,
        ]
        code = WITHOUT.format(names=list(missing), flags=arguments, before=before)
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        atexit.register(self.process.kill)  # if the test fails
        self.output = ""
        self.read_until("press Ctrl-C to stop")
        self.url = re.search(r"http://127.0.0.1:\d+", self.output)[0]  # type: ignore[index]

    def read_until(self, message: str) -> None:
        """Read the log until it contains ``message``."""
        while message not in self.output:
            line = self.process.stdout.readline()  # type: ignore[union-attr]
            assert line, self.output
            self.output += line

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def connection(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def stop(self, by: int = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        self.output += self.process.communicate(timeout=30)[0]
        return self.process.returncode


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until ``condition`` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
