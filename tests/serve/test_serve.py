"""The endpoints: their responses, and refusals, which have one form and always a hint."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import titles
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from serving import Broken, Stub, TestClient, async_client, refusal
from starlette.requests import Request

from distill.cli import parser, settings_from
from distill.config import ServeSettings
from distill.predict.teacher import LazyTeacher
from distill.runtime import Runtime
from distill.serve import _application
from distill.serve.app import create_app
from distill.serve.limits import Bodies, Body, RefusedError
from distill.serve.metrics import Metrics, Totals
from distill.serve.schemas import PredictRequest

LIMITS = ServeSettings(most_texts=4, most_characters=20, most_bytes=600)
TITLES = [text for text, _ in titles(0, 120)]
FILE = "/label_file?name=a.csv"


@pytest.fixture(scope="module")
def runtime(bundle: Path) -> Runtime:
    return Runtime(bundle)


@pytest.fixture(scope="module")
def client(runtime: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(runtime, LIMITS, model="tiny")) as client:
        yield client


def test_one_text(client: TestClient, runtime: Runtime) -> None:
    prediction = client.post("/predict", json={"text": "银行股票大涨"}).json()
    probabilities = runtime.predict_proba(["银行股票大涨"])[0]
    assert prediction == {"label": "财经", "probability": pytest.approx(float(probabilities.max()), abs=1e-6)}


def test_several_texts_are_labelled_in_order(client: TestClient, runtime: Runtime) -> None:
    texts = TITLES[:4]
    predictions = client.post("/predict", json={"texts": texts, "probabilities": True}).json()["predictions"]
    assert [prediction["label"] for prediction in predictions] == runtime.predict(texts)
    for prediction, row in zip(predictions, runtime.predict_proba(texts), strict=True):
        assert list(prediction["probabilities"]) == list(runtime.labels)
        np.testing.assert_allclose(list(prediction["probabilities"].values()), row, atol=1e-6)
        assert prediction["probability"] == max(prediction["probabilities"].values())


@settings(max_examples=25)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=4))
def test_any_texts(client: TestClient, runtime: Runtime, texts: list[str]) -> None:
    answer = client.post("/predict", content=json.dumps({"texts": texts}).encode())
    if all(text.strip() for text in texts):
        assert [one["label"] for one in answer.json()["predictions"]] == runtime.predict(texts)
    else:
        assert "is empty" in refusal(answer, 422)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["text", "texts", "probabilities", "x"]), inner),
)


@settings(max_examples=50)
@given(st.sampled_from(["/predict", "/explain"]), st.binary(max_size=50) | JSON.map(json.dumps))
def test_any_body(client: TestClient, path: str, body: bytes | str) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code in (200, 413, 422)
    if answer.status_code != 200:
        refusal(answer, answer.status_code)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", "Invalid JSON"),
        ('{"text": "球队"', "Invalid JSON"),
        ('"球队"', "should be an object"),
        ("{}", "either text or texts"),
        ('{"text": "球队", "texts": ["球队"]}', "either text or texts"),
        ('{"text": 1}', "text: Input should be a valid string"),
        ('{"text": null}', "text: Input should be a valid string"),
        ('{"texts": "球队"}', "texts: Input should be a valid array"),
        ('{"texts": ["球队", null]}', "texts.1: Input should be a valid string"),
        ('{"text": "球队", "probability": true}', "probability: Extra inputs are not permitted"),
        ('{"text": "球队", "probabilities": "yes"}', "probabilities: Input should be a valid boolean"),
        ('{"text": "球队", "top_k": 0}', "top_k: Input should be greater than or equal to 1"),
        ('{"text": "球队", "top_k": 4}', "top_k: the number of labels must be from 1 to 3, not 4"),
        ('{"text": "球队", "top_k": 1.5}', "top_k: Input should be a valid integer"),
        ('{"text": "球队", "reject_below": -0.1}', "reject_below: Input should be greater than or equal to 0"),
        ('{"text": "球队", "reject_below": 80}', "reject_below: Input should be less than or equal to 1"),
        ('{"text": "球队", "reject_below": NaN}', "reject_below"),
        ('{"text": "球队", "reject_below": "0.8"}', "reject_below: Input should be a valid number"),
        ('{"texts": []}', "there are no texts"),
        ('{"texts": ["球队", " "]}', "text 1 is empty"),
        (json.dumps({"texts": ["球"] * 5}), "5 texts, 4 are allowed"),
        (json.dumps({"texts": ["球", "队" * 21]}), "text 1 has 21 characters, 20 are allowed"),
    ],
)
def test_an_invalid_request_is_refused(client: TestClient, body: str, expected: str) -> None:
    error = refusal(client.post("/predict", content=body.encode()), 422)
    assert expected in error
    assert "球队" not in error  # texts must not get into a log of errors


def test_validation_stops_at_the_first_error() -> None:
    """Listing half a million errors would block all other requests for seconds."""
    with pytest.raises(ValidationError) as error:
        PredictRequest.model_validate_json('{"texts": [1, 2, 3]}')
    assert error.value.error_count() == 1


@pytest.mark.parametrize("name", ["基" * 5, "a" * 100, "two words"])
def test_a_field_name_that_could_be_a_text_is_not_repeated(client: TestClient, name: str) -> None:
    error = refusal(client.post("/predict", json={name: 1}), 422)
    assert error == "…: Extra inputs are not permitted"


@pytest.mark.parametrize(("path", "most"), [("/predict", 600), ("/explain", 600), (FILE, 20 * 600)])
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused(client: TestClient, path: str, most: int, declared: bool) -> None:
    body = b"text\n" + b"x" * (most - 4)
    answer = client.post(path, content=body if declared else iter([body[:300], body[300:]]))
    assert f"larger than {most:,} bytes" in refusal(answer, 413)
    assert client.post(path, content=body[:-1]).status_code != 413


def test_a_body_whose_declared_length_is_too_large_is_not_read() -> None:
    async def receive() -> Any:
        raise AssertionError("the body was read")

    request = Request({"type": "http", "headers": [(b"content-length", b"11")]}, receive)
    with pytest.raises(RefusedError, match="larger than 10 bytes"), Body(Bodies(10)) as body:
        asyncio.run(body.read(request, 10, 1))


def test_unknown_paths_and_methods(client: TestClient) -> None:
    answer = client.get("/predict")
    assert "GET /predict: method not allowed" in refusal(answer, 405) and answer.headers["Allow"] == "POST"
    assert "not found" in refusal(client.get("/nowhere"), 404)
    assert "name: Field required" in refusal(client.post("/label_file", content=b"x"), 422)


def test_head_works_for_probes(client: TestClient) -> None:
    for path in ("/", "/health", "/ready", "/metrics"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.headers["content-type"]) == (200, get.headers["content-type"])
    assert client.head("/predict").status_code == 405


def test_too_many_waiting_requests_are_refused() -> None:
    student = Stub()

    async def two() -> tuple[Any, Any]:
        async with async_client(create_app(student, ServeSettings(most_waiting=1))) as client:
            first = asyncio.create_task(client.post("/predict", json={"text": "球队"}))
            await asyncio.to_thread(student.called.wait, 10)
            second = await client.post("/predict", json={"text": "股票"})
            student.released.set()
            return await first, second

    first, second = asyncio.run(two())
    assert first.json()["label"] == "体育"
    assert "too many requests are waiting (limit 1)" in refusal(second, 429)
    assert second.headers["Retry-After"] == "1"


@pytest.mark.parametrize(("path", "body"), [("/predict", '{"text": "球队"}'), ("/explain", '{"text": "球队"}')])
def test_an_answer_that_takes_too_long_is_refused(path: str, body: str) -> None:
    student = Stub()
    with TestClient(create_app(student, ServeSettings(wait_s=0.05))) as client:
        answer = client.post(path, content=body.encode())
        student.released.set()
        assert "longer than 0.05 s" in refusal(answer, 503) and "Retry-After" in answer.headers
        assert client.post(path, content=body.encode()).json()["label"] == "体育"  # the late answer delays nobody


def test_a_body_that_arrives_too_slowly_is_refused() -> None:
    async def slowly() -> Any:
        async def parts() -> Any:
            yield b"{"
            await asyncio.sleep(5)

        async with async_client(create_app(Stub(), ServeSettings(wait_s=0.05))) as client:
            return await client.post("/predict", content=parts())

    assert "took longer than 0.05 s to arrive" in refusal(asyncio.run(slowly()), 408)


def test_an_internal_error_has_the_form_of_all_errors() -> None:
    with TestClient(create_app(Broken(), ServeSettings()), raise_server_exceptions=False) as client:
        for _ in range(2):
            assert refusal(client.post("/predict", json={"text": "球队"}), 500) == "internal error of the service"
        assert 'distill_requests_total{path="/predict",status="500"} 2.0' in client.get("/metrics").text


FAULTS = {
    "the metrics of a batch": "distill.serve.metrics.Metrics.count_batch",
    "the metrics of a request": "distill.serve.metrics.Metrics.count_request",
    "the body": "distill.serve.endpoints.parse_body",
    "the next batch": "distill.serve.batching.Batcher._next_batch",
    "the student": "serving.Stub.predict_proba",
    "the rows of a request": "distill.serve.batching._distribute",
    "the prediction": "distill.serve.endpoints._prediction",
    "the response": "distill.serve.endpoints.json_bytes",
    "a cancelled request": "",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_at_any_step_the_next_request_is_answered(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = iter([ZeroDivisionError])
    if FAULTS[fault]:
        original = pkgutil.resolve_name(FAULTS[fault])

        def faulty(*arguments: Any, **named: Any) -> Any:
            for error in faults:
                raise error
            return original(*arguments, **named)

        monkeypatch.setattr(FAULTS[fault], faulty)
    student = Stub(waits=fault == "a cancelled request")
    app = create_app(student, ServeSettings(wait_s=0.3, most_waiting=1))

    async def ask() -> Any:
        async with async_client(app) as client:
            first = asyncio.create_task(client.post("/predict", json={"text": "球队"}))
            if student.released.is_set():
                await first
            else:
                await asyncio.to_thread(student.called.wait, 10)
                first.cancel()
                student.released.set()
                await asyncio.wait([first])
            return await client.post("/predict", json={"text": "股票"}), await client.get("/metrics")

    answer, metrics = asyncio.run(ask())
    assert answer.status_code == 200 and answer.json()["label"] == "体育"
    assert "distill_waiting 0.0" in metrics.text and "distill_bodies 0.0" in metrics.text
    assert next(faults, None) is None or fault == "a cancelled request"


def test_health_and_readiness(runtime: Runtime) -> None:
    app = create_app(runtime, LIMITS, model="tiny")
    client = TestClient(app)
    assert client.get("/ready").status_code == 503 and client.get("/ready").json()["status"] == "starting"
    with client:
        answer = client.get("/ready")
        assert answer.status_code == 200
        assert answer.json()["labels"] == list(runtime.labels)
        assert (answer.json()["status"], answer.json()["model"], answer.json()["teacher"]) == ("ready", "tiny", False)
    assert client.get("/ready").status_code == 503 and client.get("/ready").json()["status"] == "stopping"
    assert client.get("/health").json() == {"status": "alive"}


def test_metrics_count_requests_and_texts(runtime: Runtime) -> None:
    with TestClient(create_app(runtime, LIMITS)) as client:
        client.post("/predict", json={"texts": TITLES[:3]})
        client.post("/predict", json={})
        for number in range(3):
            client.get(f"/stranger/{number}")
        counts = client.get("/metrics").text
    assert 'distill_requests_total{path="/predict",status="200"} 1.0' in counts
    assert 'distill_requests_total{path="/predict",status="422"} 1.0' in counts
    assert 'distill_requests_total{path="other",status="404"} 3.0' in counts and "stranger" not in counts
    assert 'distill_request_seconds_count{path="/predict"} 2.0' in counts
    assert "distill_texts_total 3.0" in counts and "distill_batch_texts_sum 3.0" in counts
    assert "distill_waiting 0.0" in counts


def test_the_log_contains_no_texts(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "distill"),
        TestClient(create_app(runtime, ServeSettings(access_log=True))) as client,
    ):
        client.post("/predict", json={"texts": TITLES[:3]})
        client.post("/predict", json={"text": [TITLES[0]]})
        client.get(f"/{TITLES[0]}")
    log = caplog.text
    assert re.search(r"POST /predict 200, 3 texts, [\d.]+ ms", log) and "POST /predict 422, 0 texts" in log
    assert re.search(r"3 requests, 3 texts, refused: 1 x 404, 1 x 422, mean [\d.]+ ms, slowest", log)
    assert not any(text in log for text in TITLES[:3])


def test_requests_are_not_logged_without_access_log(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "distill"), TestClient(create_app(runtime, LIMITS)) as client:
        client.post("/predict", json={"text": TITLES[0]})
    assert "POST" not in caplog.text


def test_a_summary_is_logged_every_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("distill.serve.metrics.MINUTE", 0.01)
    metrics = Metrics(lambda: 0)
    assert metrics.summary

    async def minutes() -> None:
        task = asyncio.create_task(metrics.summary.log_every_minute())
        for _ in range(2):
            metrics.count_request("GET", "/", 200, 0, 0.5)
            await asyncio.sleep(0.05)
        task.cancel()

    with caplog.at_level(logging.INFO, "distill"):
        asyncio.run(minutes())
    assert len(re.findall(r"1 requests, 0 texts, refused: none, mean 500.0 ms", caplog.text)) == 2


def test_an_explanation_by_student_and_teacher(runtime: Runtime, finished_run: Path) -> None:
    with TestClient(create_app(runtime, ServeSettings(wait_s=60), LazyTeacher(finished_run / "teacher"))) as client:
        explanation = client.post("/explain", json={"text": "银行股票大涨"}).json()
    assert explanation["label"] == "财经" and explanation["labels"] == list(runtime.labels)
    for model in (explanation["student"], explanation["teacher"]):
        assert set(model["probabilities"]) == set(runtime.labels) and model["ms"] > 0
        assert sum(model["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert max(explanation["student"]["probabilities"], key=explanation["student"]["probabilities"].get) == "财经"
    assert "".join(word["word"] for word in explanation["words"]) == "银行股票大涨"


@pytest.mark.parametrize("teacher", [None, Broken()])
def test_an_explanation_without_a_working_teacher(runtime: Runtime, teacher: Stub | None) -> None:
    with TestClient(create_app(runtime, LIMITS, teacher)) as client:
        explanation = client.post("/explain", json={"text": "银行股票大涨"}).json()
    assert explanation["label"] == "财经" and explanation["teacher"] is None


def test_a_slow_teacher_does_not_delay_the_student(runtime: Runtime) -> None:
    teacher = Stub()

    async def ask() -> tuple[Any, Any]:
        async with async_client(create_app(runtime, ServeSettings(), teacher)) as client:
            explained = asyncio.create_task(client.post("/explain", json={"text": "银行股票大涨"}))
            await asyncio.to_thread(teacher.called.wait, 10)
            predicted = await client.post("/predict", json={"text": "银行股票大涨"})
            assert not explained.done()
            teacher.released.set()
            return predicted, await explained

    predicted, explained = asyncio.run(ask())
    assert predicted.json()["label"] == "财经"
    assert explained.json()["teacher"]["probabilities"] == {"体育": 0.75, "财经": 0.25}


def test_a_file_is_labelled(client: TestClient, runtime: Runtime) -> None:
    body = "id,标题\n1,银行股票大涨\n2,\n3,球队赢得比赛\n"
    answer = client.post("/label_file?name=新闻.csv", content=body.encode())
    header, first, second = answer.text.splitlines()
    assert header == "id,标题,predicted,probability"
    assert re.fullmatch(r"1,银行股票大涨,财经,(0\.\d{5}|1\.00000)", first)
    assert re.fullmatch(r"3,球队赢得比赛,体育,(0\.\d{5}|1\.00000)", second)
    assert (answer.headers["X-Rows"], answer.headers["X-Bad-Rows"]) == ("2", "1")
    assert "UTF-8''%E6%96%B0%E9%97%BB.labelled.csv" in answer.headers["Content-Disposition"]


def test_half_a_surrogate_pair_in_a_cell_stays_as_it_is(client: TestClient) -> None:
    answer = client.post(
        "/label_file?name=a.json", content=b'[{"text": "ab", "n": "\\ud800"}, {"text": "cd", "n": "x"}]'
    )
    assert answer.status_code == 200 and '"n": "\\ud800", "predicted"' in answer.text


def test_all_parameters_of_a_file(client: TestClient, runtime: Runtime) -> None:
    parameters = {"name": "a.jsonl", "text_column": "t", "probabilities": "true"}
    answer = client.post("/label_file", params=parameters, content='{"t": "银行股票大涨"}\n'.encode())
    assert set(json.loads(answer.text)["probabilities"]) == set(runtime.labels)


@pytest.mark.parametrize(("name", "expected"), [("a.xlsx", "a.xlsx: unknown kind of file"), ("a.csv", "text")])
def test_an_unreadable_file_is_refused(client: TestClient, name: str, expected: str) -> None:
    assert expected in refusal(client.post("/label_file", params={"name": name}, content=b"a,b\n1,2\n"), 422)


def test_a_compressed_file_is_refused(client: TestClient) -> None:
    """A thousand bytes could become more than the memory holds."""
    content = gzip.compress("text\n球队赢得比赛\n".encode())
    assert "gzip files are not read here" in refusal(client.post("/label_file?name=a.csv", content=content), 422)


def test_the_hint_names_the_query_parameter_and_not_the_flag(client: TestClient) -> None:
    answer = client.post("/label_file?name=a.csv", content=b"a,b\n1,2\n")
    assert "&text_column=NAME" in answer.json()["hint"] and "--" not in answer.json()["hint"]


def test_the_schema_and_its_page(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    predict = schema["paths"]["/predict"]["post"]
    question = predict["requestBody"]["content"]["application/json"]["schema"]
    assert set(question["properties"]) == {"text", "texts", "probabilities", "top_k", "reject_below"}
    assert {"200", "400", "401", "403", "408", "413", "422", "429", "503"} == set(predict["responses"])
    docs = client.get("/docs")
    assert "http" not in docs.text and "'self'" in docs.headers["Content-Security-Policy"]
    for path in re.findall(r'(?:href|src)="([^"]+)"', docs.text):
        assert client.get(f"/{path}").status_code == 200


def test_the_page(client: TestClient, runtime: Runtime) -> None:
    answer = client.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert answer.headers["Cache-Control"] == "no-cache"
    for path in re.findall(r'(?:href|src)="([^"#]+)"', answer.text):
        assert client.get(f"/{path.lstrip('/')}").status_code == 200, path
    assert refusal(client.get("/page/../app.py"), 404)
    assert refusal(TestClient(create_app(runtime, LIMITS, page=False)).get("/"), 404)


@pytest.mark.parametrize(("escapes", "cell"), [(True, "'=1+1"), (False, "=1+1")])
def test_formulas_of_a_file_are_escaped_unless_the_service_was_started_otherwise(
    escapes: bool, cell: str, runtime: Runtime
) -> None:
    with TestClient(create_app(runtime, LIMITS, escape_formulas=escapes)) as client:
        answer = client.post(FILE, content="\ufefftext,note\n球队,=1+1\n".encode())
        assert answer.text.splitlines()[1].startswith(f"球队,{cell},")


def test_the_flag_of_formulas_reaches_the_service(bundle: Path) -> None:
    settings = settings_from(vars(parser().parse_args(["--with_teacher", "no", "--no-escape_formulas"])))
    app, _ = _application(settings, bundle, Totals(1))
    assert not app.state.endpoints.escape_formulas


def test_columns_without_a_header_are_chosen_by_a_parameter(client: TestClient) -> None:
    answer = client.post("/label_file?name=a.txt", content="1\t球队\t甲\n2\t银行\t乙\n".encode())
    assert "3 columns" in refusal(answer, 422) and answer.json()["hint"] == "add &text_column=NUMBER"
