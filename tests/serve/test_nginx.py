"""The nginx configuration of docs/service.md, with the real nginx: requests survive the restart of a process."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import NOT_NEEDED, ROOT, Served, until

NGINX = shutil.which("nginx")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed: apt-get install nginx-light"),
]
CLIENTS, RESTARTS = 8, 3


def configuration(ports: list[int], port: int, folder: Path) -> str:
    """The configuration in docs/service.md on other ports, without TLS, in the foreground."""
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    [recipe] = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    for documented, used in zip(("127.0.0.1:8001", "127.0.0.1:8002"), ports, strict=True):
        assert recipe.count(documented) == 1
        recipe = recipe.replace(documented, f"127.0.0.1:{used}")
    assert recipe.count("listen 443 ssl;") == 1
    recipe = recipe.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};")
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 512; }}\nhttp {{ access_log off;\n{paths}{recipe}}}\n"
    )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def proxied(bundle: Path, tmp_path: Path) -> Iterator[tuple[int, list[Served], list[int]]]:
    """The port of nginx, two services behind it, and their ports."""
    port, *ports = free_ports(3)
    services = [Served(bundle, NOT_NEEDED, "--port", str(own)) for own in ports]
    (tmp_path / "nginx.conf").write_text(configuration(ports, port, tmp_path), encoding="utf-8")
    nginx = subprocess.Popen([str(NGINX), "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)])
    try:
        until(lambda: nginx.poll() is not None or not _is_free(port))
        yield port, services, ports
    finally:
        nginx.terminate()
        nginx.wait()
        for service in services:
            service.process.kill()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_no_request_is_lost_while_the_processes_restart(
    proxied: tuple[int, list[Served], list[int]], bundle: Path
) -> None:
    port, services, ports = proxied
    statuses: list[int] = []
    is_over = threading.Event()
    body = json.dumps({"text": "银行股票大涨"}).encode()
    # A page behind nginx sends its own origin, which must be that of the Host that nginx passes on.
    headers = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{port}"}

    def post() -> None:
        while not is_over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            for _ in range(50):
                connection.request("POST", "/predict", body, headers)
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
            connection.close()

    clients = [threading.Thread(target=post) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    for number in range(RESTARTS):
        index = number % 2
        assert services[index].stop() == 0
        services[index] = Served(bundle, NOT_NEEDED, "--port", str(ports[index]))
    is_over.set()
    for client in clients:
        client.join()
    assert len(statuses) > 500 and set(statuses) == {200}, {status: statuses.count(status) for status in set(statuses)}
