"""Who may use the service: host names, pages of other origins, and the token; and what refusals and logs may tell."""

from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import pytest
from serving import Broken, Stub, TestClient, refusal

from distill.config import ServeSettings
from distill.errors import UserError
from distill.serve.app import create_app
from distill.serve.security import allowed_hosts, read_token

TEXT = {"text": "球队"}
PAGE = "https://news.example.com"
PRIVATE = "机密内容"


def client_of(**flags: Any) -> TestClient:
    return TestClient(create_app(Stub(waits=False), ServeSettings(**flags)))


@pytest.mark.parametrize(
    ("flags", "accepted", "refused"),
    [
        ({}, "localhost 127.0.0.1:8000 LOCALHOST:80 [::1]:8000", "evil.example 127.0.0.1.evil.example 0.0.0.0 [::2]"),
        ({"host": "192.0.2.7"}, "192.0.2.7:8000 localhost", "192.0.2.8 evil.example"),
        ({"host": "::1"}, "[::1]:8000 localhost", "[::2]"),
        ({"host": "0.0.0.0"}, "evil.example localhost distill:8000", ""),  # noqa: S104
        ({"host": "0.0.0.0", "allowed_host": ("news.example.com",)}, "news.example.com localhost", "evil.example"),  # noqa: S104
        ({"allowed_host": ("News.example.com:443",)}, "news.example.com:8443 localhost", "example.com"),
        ({"allowed_host": ("*",)}, "evil.example", ""),
    ],
)
def test_only_known_hosts_are_answered(flags: dict[str, Any], accepted: str, refused: str) -> None:
    client = client_of(**flags)
    for path in ("/predict", "/label_file?name=a.txt"):
        for host in accepted.split():
            assert client.post(path, json=TEXT, headers={"Host": host}).status_code == 200, host
        for host in refused.split():
            answer = client.post(path, json=TEXT, headers={"Host": host})
            assert "host name is not allowed" in refusal(answer, 403), host
            assert "--allowed_host " in answer.json()["hint"]


def test_each_of_several_host_headers_must_be_allowed() -> None:
    headers = [("Host", "evil.example"), ("Host", "localhost")]
    assert client_of().post("/predict", json=TEXT, headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:8000", "Host": "localhost:8000"}, 200),
        ({"Origin": "http://localhost:3000", "Host": "localhost:8000"}, 403),
        ({"Origin": PAGE}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": PAGE, "Sec-Fetch-Site": "same-origin"}, 200),  # a proxy changed the host
        ({"Origin": PAGE, "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
@pytest.mark.parametrize("path", ["/predict", "/explain", "/label_file?name=a.txt"])
def test_pages_of_other_origins_cannot_send_requests(
    path: str, kind: str, headers: dict[str, str], status: int
) -> None:
    """A browser sends a form or plain text to any address without asking it first."""
    client = client_of()
    answer = client.post(path, content='{"text": "球队"}'.encode(), headers={"Content-Type": kind, **headers})
    assert answer.status_code == status
    if status == 403:
        assert "another origin" in refusal(answer, 403)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_pages_of_an_allowed_origin_can_use_the_service(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc")
    client = client_of(allow_origin=(f"{PAGE}/",), token_file=str(token))
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,authorization"}
    preflight = client.options("/predict", headers={"Origin": PAGE, **asks})
    assert preflight.status_code == 200 and preflight.headers["Access-Control-Allow-Origin"] == PAGE
    answer = client.post("/predict", json=TEXT, headers={"Origin": PAGE, "Authorization": "Bearer abc"})
    assert answer.json()["label"] == "体育" and answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "X-Rows" in answer.headers["Access-Control-Expose-Headers"]
    refused = client.post("/predict", json=TEXT, headers={"Origin": PAGE})
    assert refused.status_code == 401 and refused.headers["Access-Control-Allow-Origin"] == PAGE  # its script sees it
    other = {"Origin": "https://other.example"}
    assert client.options("/predict", headers={**other, **asks}).status_code == 400
    assert client.post("/predict", json=TEXT, headers=other).status_code == 403


def test_an_origin_that_is_none_is_an_error() -> None:
    for origin in ("news.example.com", "https://news.example.com/page", "ftp://x", "https://"):
        with pytest.raises(UserError, match="not an origin"):
            client_of(allow_origin=(origin,))


def test_the_token_is_needed_for_everything_but_the_probes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("abc\n")
    client = client_of(token_file=str(token))
    for path in ("/health", "/ready"):
        assert "/".join(client.get(path, headers={}).json()) and client.get(path).status_code in (200, 503)
    wrong = ("", "Bearer", "Bearer ab", "Bearer abcd", "abc", "Basic", "Basic abc", "Basic !", "Digest abc")
    for path in ("/", "/page/main.js", "/docs", "/openapi.json", "/metrics", "/nowhere", "/predict"):
        for value in wrong:
            answer = client.get(path, headers={"Authorization": value})
            assert "token is missing or wrong" in refusal(answer, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer, Basic ")  # a browser asks for a password
    for path in ("/predict", "/explain", "/label_file?name=a.txt"):
        assert client.post(path, json=TEXT).status_code == 401
        for value in ("Bearer abc", "bearer abc", "Basic " + base64.b64encode(b"any:abc").decode()):
            assert client.post(path, json=TEXT, headers={"Authorization": value}).status_code == 200


def test_the_file_of_the_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    for content in (b"", b" \n", b"two words", b"two\nlines", "密码".encode()):
        file.write_bytes(content)
        with pytest.raises(UserError, match="token") as error:
            read_token(str(file))
        assert error.value.where == str(file) and "openssl" in error.value.hint
    file.write_text("abc\n")
    file.chmod(0o640)
    assert read_token(str(file)) == b"abc" and "chmod 600" in caplog.text
    caplog.clear()
    file.chmod(0o600)
    assert read_token(str(file)) == b"abc" and not caplog.text and read_token("") == b""


def test_nothing_redirects_to_a_host_that_the_client_names() -> None:
    client = client_of(allowed_host=("*",))
    for path in ("/predict/", "/health/", "/docs/", "/page", "//evil.example/%2e%2e"):
        answer = client.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
        assert answer.status_code in (404, 405) and "location" not in answer.headers, path


def test_a_strange_host_is_no_internal_error() -> None:
    client = client_of(allowed_host=("*",))
    for host in ("[", "]", "a b", "://", "@"):
        assert client.get("/nowhere", headers={"Host": host}).status_code == 404


FILES = {
    "names of columns": ("a.csv", f"{PRIVATE}1,{PRIVATE}2\n{PRIVATE}3,{PRIVATE}4\n".encode()),
    "tabs": ("a.tsv", f"{PRIVATE}1\t{PRIVATE}2\n{PRIVATE}3\t{PRIVATE}4\n".encode()),
    "a broken header": ("a.csv", f"text,{PRIVATE}".encode() + b"\xff" + b"\n1,2" * 9),
    "two columns of one name": ("a.csv", f"text,text,{PRIVATE}\n{PRIVATE},1,2\n".encode()),
    "a name that the output needs": ("a.csv", f"text,predicted,{PRIVATE}\n{PRIVATE},1,2\n".encode()),
    "columns of a text file": ("a.txt", f"{PRIVATE}\t1\t2\n".encode() * 3),
    "keys of objects": ("a.jsonl", f'{{"{PRIVATE}": "{PRIVATE}"}}\n'.encode() * 2),
    "keys of a document": ("a.json", f'[{{"{PRIVATE}": "{PRIVATE}"}}]'.encode()),
    "a broken document": ("a.json", f'[{{"text": "{PRIVATE}"}}, {{"text": "{PRIVATE}'.encode()),
    "no JSON": ("a.json", f"{PRIVATE} {PRIVATE}".encode()),
    "a large number": ("a.json", f'[{{"text": "{PRIVATE}", "n": {"9" * 5000}}}]'.encode()),
    "empty arrays": ("a.json", b"[[]]"),
    "an unknown encoding": ("a.csv", f"text\n{PRIVATE}\n".encode("big5", "ignore") + b"\xff\xfe\xfd\n" * 9),
    "an unknown column": ("a.csv&text_column=7", f"{PRIVATE}\n{PRIVATE}\n".encode()),
}


@pytest.mark.parametrize(("name", "content"), FILES.values(), ids=list(FILES))
def test_no_refusal_of_a_file_repeats_its_content(name: str, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = client_of(access_log=True).post(f"/label_file?name={name}", content=content)
    assert refusal(answer, 422) and PRIVATE not in answer.text and PRIVATE not in caplog.text


def test_an_internal_error_is_logged_without_its_message(caplog: pytest.LogCaptureFixture) -> None:
    client = TestClient(create_app(Broken(), ServeSettings()))
    for path in ("/predict", "/explain"):
        assert refusal(client.post(path, json={"text": PRIVATE}), 500) == "internal error of the service"
    assert (
        PRIVATE not in caplog.text
        and caplog.text.count("internal error: ValueError") == 2
        and "in predict_proba" in caplog.text
    )
    teacher = TestClient(create_app(Stub(waits=False), ServeSettings(), Broken()))
    assert teacher.post("/explain", json={"text": PRIVATE}).json()["teacher"] is None
    assert PRIVATE not in caplog.text and "the teacher did not answer: ValueError" in caplog.text


def test_the_default_hosts_are_those_of_this_machine() -> None:
    assert allowed_hosts(ServeSettings()) == {"localhost", "127.0.0.1", "[::1]"}


def test_probes_name_an_address_as_the_host(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 32)
    client = client_of(allowed_host=("news.example.com",), token_file=str(tmp_path / "token"))
    for path in ("/health", "/ready"):
        assert client.get(path, headers={"Host": "10.1.2.3:8000"}).status_code != 403
    assert client.get("/metrics", headers={"Host": "10.1.2.3:8000"}).status_code == 403


@pytest.mark.parametrize("host", ["http://news.example.com", "*.example.com", "", ":80", "[]"])
def test_an_allowed_host_that_is_none_is_an_error(host: str) -> None:
    with pytest.raises(UserError, match="this is not the name of a host"):
        allowed_hosts(ServeSettings(allowed_host=(host,)))


def test_an_allowed_address_without_brackets() -> None:
    assert "[2001:db8::1]" in allowed_hosts(ServeSettings(allowed_host=("2001:db8::1",)))
