"""The service of a student that gives a text any number of labels."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest
from browsing import Teacher, Visit, ask, bars
from conftest import titles
from numpy.typing import NDArray
from serving import NOT_NEEDED, Served, Stub, TestClient

from distill.config import PredictSettings, RunSettings, ServeSettings, Settings, UnsureSettings
from distill.errors import UserError
from distill.predict.teacher import find_teacher
from distill.runtime import Cascade, Runtime, load
from distill.runtime.label_sets import certainty, exceeding, set_probability
from distill.serve import _application
from distill.serve.app import create_app
from distill.serve.metrics import Totals
from distill.serve.schemas import Explanation, MultiLabelPrediction, PredictionList, Readiness

TEXTS = [text for text, _ in titles(0, 60)]


class TeacherOfSeveral(Teacher):
    """Always gives 体育 and never another label."""

    thresholds = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def runtime(several_bundle: Path) -> Runtime:
    return load(several_bundle)


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(runtime, ServeSettings(), TeacherOfSeveral(runtime.labels))) as client:
        yield client


def expected(runtime: Runtime, texts: list[str]) -> list[dict[str, Any]]:
    """What /predict answers with the probabilities of all labels."""
    rows = runtime.predict_proba(texts)
    certain = certainty(rows, exceeding(rows, runtime.thresholds)).tolist()
    return [
        {
            "labels": labels,
            "probability": pytest.approx(value, abs=1e-5),
            "probabilities": pytest.approx(dict(zip(runtime.labels, row, strict=True)), abs=1e-5),
        }
        for labels, value, row in zip(runtime.predict(texts), certain, rows.tolist(), strict=True)
    ]


def test_predictions_have_lists_of_labels(client: TestClient, runtime: Runtime) -> None:
    answer = client.post("/predict", json={"texts": TEXTS, "probabilities": True}).json()
    assert answer["predictions"] == expected(runtime, TEXTS)
    assert {len(one["labels"]) for one in answer["predictions"]} >= {0, 1, 2}
    assert isinstance(PredictionList.model_validate(answer).predictions[0], MultiLabelPrediction)
    single = client.post("/predict", json={"text": TEXTS[0], "top_k": 2}).json()
    assert set(single) == {"labels", "probability", "top_k"}
    assert [top["label"] for top in single["top_k"]] == [label for label, _ in runtime.top_k(TEXTS[:1], 2)[0]]


def test_the_answer_without_asgi_is_the_same(several_bundle: Path, runtime: Runtime) -> None:
    pytest.importorskip("httptools", reason="pip install -r requirements-dev.txt")
    served = Served(several_bundle, NOT_NEEDED)
    body = json.dumps({"texts": TEXTS[:3], "probabilities": True}).encode()
    with urlopen(Request(f"{served.url}/predict", body)) as response:  # noqa: S310
        assert json.loads(response.read())["predictions"] == expected(runtime, TEXTS[:3])
    assert served.stop() == 0


def test_a_file_and_the_other_answers(client: TestClient, runtime: Runtime) -> None:
    answer = client.post("/label_file?name=a.csv&top_k=1", content="\n".join(["text", *TEXTS[:4]]).encode())
    rows = [line.split(",") for line in answer.text.splitlines()]
    assert rows[0] == ["text", "predicted", "probability", "top_1", "top_1_probability"]
    assert [row[1] for row in rows[1:]] == ["|".join(labels) for labels in runtime.predict(TEXTS[:4])]
    ready = client.get("/ready").json()
    assert ready["labels"] == list(runtime.labels) and ready["thresholds"] == list(runtime.thresholds)
    assert Readiness.model_validate(ready)


def test_the_explanation_is_that_of_the_most_probable_label(client: TestClient, runtime: Runtime) -> None:
    answer = client.post("/explain", json={"text": TEXTS[0]}).json()
    assert Explanation.model_validate(answer)
    assert answer["label"] == runtime.top_k(TEXTS[:1], 1)[0][0][0] and answer["labels"] == list(runtime.labels)
    assert answer["student"]["labels"] == runtime.predict(TEXTS[:1])[0] and answer["teacher"]["labels"] == ["体育"]
    assert "".join(word["word"] for word in answer["words"]) == TEXTS[0]


def test_a_request_rejects_sets(client: TestClient, runtime: Runtime) -> None:
    rows = runtime.predict_proba(TEXTS)
    together = set_probability(rows, exceeding(rows, runtime.thresholds))
    below = float(np.median(together))
    answers = client.post("/predict", json={"texts": TEXTS, "reject_below": below}).json()["predictions"]
    assert [one["labels"] for one in answers] == runtime.predict(TEXTS, reject_below=below)
    assert [one["set_probability"] for one in answers] == pytest.approx(together.tolist(), abs=1e-5)
    assert isinstance(PredictionList.model_validate({"predictions": answers}).predictions[0], MultiLabelPrediction)
    plain = client.post("/predict", json={"texts": TEXTS, "reject_below": 0}).json()["predictions"]
    assert [one["probability"] for one in plain] == [one["probability"] for one in answers]
    assert all("set_probability" not in one for one in plain)
    rejected = int((together < np.float32(below)).sum())
    assert f"distill_rejected_texts_total {rejected}.0" in client.get("/metrics").text
    content = "\n".join(["text", *TEXTS]).encode()
    answer = client.post(f"/label_file?name=a.csv&reject_below={below}", content=content)
    lines = [line.split(",") for line in answer.text.splitlines()]
    assert lines[0] == ["text", "predicted", "probability", "set_probability"]
    assert [line[1] for line in lines[1:]] == ["|".join(one["labels"]) for one in answers]
    assert answer.headers["X-Rejected-Rows"] == str(rejected)


def test_a_service_may_reject_sets(runtime: Runtime) -> None:
    unsure = UnsureSettings(reject_below=1, reject_label="其他")
    with TestClient(create_app(runtime, ServeSettings(), unsure=unsure)) as client:
        answer = client.post("/predict", json={"text": TEXTS[0], "top_k": 1}).json()
        assert answer["labels"] == ["其他"] and list(answer) == ["labels", "probability", "set_probability", "top_k"]
    with pytest.raises(UserError, match="is a label of the data"):
        create_app(runtime, ServeSettings(), unsure=UnsureSettings(reject_below=1, reject_label=runtime.labels[0]))


class TeacherOfSets(Stub):
    """Gives every text the second of three labels, by thresholds of its own; its labels are in the opposite order."""

    thresholds = (0.9, 0.2, 0.9)

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.array([0.8, 0.3, 0.8], np.float32), (len(texts), 1))


def test_a_cascade_gives_the_sets_of_the_teacher(runtime: Runtime) -> None:
    rows = runtime.predict_proba(TEXTS)
    below = float(np.median(set_probability(rows, exceeding(rows, runtime.thresholds))))
    teacher = TeacherOfSets(runtime.labels[::-1])
    cascade = Cascade(runtime, teacher, below)
    expected, (_, by_teacher) = cascade.predict(TEXTS), cascade.answer(TEXTS)
    unsure = UnsureSettings(cascade=True, cascade_below=below)
    with TestClient(create_app(runtime, ServeSettings(), teacher, unsure=unsure)) as client:
        answers = client.post("/predict", json={"texts": TEXTS}).json()["predictions"]
        assert [one["labels"] for one in answers] == expected
        assert [one["answered_by"] == "teacher" for one in answers] == by_teacher.tolist()
        first = answers[int(by_teacher.argmax())]
        assert first["labels"] == [runtime.labels[1]]
        assert (first["probability"], first["set_probability"]) == pytest.approx((0.2, 0.2 * 0.3 * 0.2), abs=1e-5)
        content = "\n".join(["text", *TEXTS]).encode()
        lines = client.post("/label_file?name=a.csv", content=content).text.splitlines()
        assert [line.split(",")[1] for line in lines[1:]] == ["|".join(labels) for labels in expected]
        assert f"distill_teacher_texts_total {2 * by_teacher.sum()}.0" in client.get("/metrics").text


def test_a_cascade_needs_a_teacher_of_sets(several_bundle: Path, runtime: Runtime, tmp_path: Path) -> None:
    unsure = UnsureSettings(cascade=True)
    run, predict = RunSettings(run=str(tmp_path)), PredictSettings(bundle=str(several_bundle))
    with pytest.raises(UserError, match="there is no trained teacher"):
        _application(Settings(run=run, predict=predict, unsure=unsure), several_bundle, Totals(1))
    with pytest.raises(UserError, match="one of student and teacher gives a text one label"):
        create_app(runtime, ServeSettings(), Stub(runtime.labels), unsure=unsure)


def test_the_teacher_must_give_as_many_labels(tmp_path: Path) -> None:
    (tmp_path / "teacher").mkdir()
    card = tmp_path / "teacher" / "teacher.json"
    settings = Settings(run=RunSettings(run=str(tmp_path)), serve=ServeSettings(with_teacher="yes"))
    for teacher, student in (((), (0.5,)), ((0.5,), ())):
        card.write_text(json.dumps({"labels": ["a"], **({"thresholds": teacher} if teacher else {})}))
        with pytest.raises(UserError, match="one of student and teacher gives a text one label, the other any number"):
            find_teacher(settings, ("a",), student)
        found = find_teacher(settings, ("a",), teacher)
        assert found is not None and (found.labels, found.thresholds) == (("a",), teacher)


def test_a_reload_changes_the_kind_of_answer(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """The teacher of the old student gives every text one label, so it is not shown any more."""
    old = Stub(runtime.labels, waits=False)
    app = create_app(old, ServeSettings(allow_reload=True), old, load=lambda: (runtime, "new"))
    with TestClient(app) as client:
        assert "label" in client.post("/predict", json={"text": TEXTS[0]}).json()
        assert client.post("/reload").json()["teacher"] is False and "other labels than the teacher" in caplog.text
        assert "labels" in client.post("/predict", json={"text": TEXTS[0]}).json()


def test_the_schema_has_both_kinds_of_answers(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    assert {"Prediction", "MultiLabelPrediction"} <= set(schema["components"]["schemas"])
    answer = schema["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert len(answer["anyOf"]) == 4


def test_the_page_shows_the_labels(browser: Any, runtime: Runtime) -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="pip install -r requirements-dev.txt")
    app = create_app(runtime, ServeSettings(), TeacherOfSeveral(runtime.labels), model="tiny")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    label_sets = dict(zip(TEXTS, runtime.predict(TEXTS), strict=True))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        visit = Visit(browser, f"http://127.0.0.1:{listener.getsockname()[1]}")
        page = visit.open()
        for count in (0, 1, 2):
            text, labels = next((text, labels) for text, labels in label_sets.items() if len(labels) == count)
            ask(page, text)
            shown = " ".join(f"「{label}」" for label in labels) or "无类别"
            page.locator(f"#status:has-text('学生模型：{shown}。教师模型')").wait_for()
            given = page.locator(".model").first.locator(".bars li.first .name").all_inner_texts()
            assert sorted(given) == sorted(labels) and len(bars(page, 0)) == 3
        ask(page, *TEXTS[:9])
        page.locator("tbody tr").nth(8).wait_for()
        cells = page.locator("tbody tr td:nth-child(3)").all_inner_texts()
        assert cells == [" · ".join(label_sets[text]) or "—" for text in TEXTS[:9]]
        visit.check()
        server.should_exit = True
        thread.join()
