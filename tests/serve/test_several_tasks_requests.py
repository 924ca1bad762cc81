"""The service of a student of several tasks."""

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
from browsing import Visit, ask, bars
from conftest import titles
from numpy.typing import NDArray
from serving import NOT_NEEDED, Served, Stub, TestClient, refusal

from distill.config import PredictSettings, RunSettings, ServeSettings, Settings, UnsureSettings
from distill.errors import UserError
from distill.runtime import Cascade, Runtime, Task, load
from distill.runtime.label_sets import certainty, exceeding
from distill.serve import _application
from distill.serve.app import create_app
from distill.serve.metrics import Totals
from distill.serve.schemas import PredictionList, Readiness, TasksExplanation, TasksPrediction

TEXTS = [text for text, _ in titles(0, 60)]


@pytest.fixture(scope="module")
def runtime(bundle_of_tasks: Path) -> Runtime:
    return load(bundle_of_tasks)


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(runtime, ServeSettings(), model="tiny")) as client:
        yield client


def expected(runtime: Runtime, texts: list[str]) -> list[dict[str, Any]]:
    """What /predict answers."""
    labels, rows = runtime.predict(texts), runtime.predict_proba(texts)
    highest = rows["topic"].max(axis=1).tolist()
    certain = certainty(rows["sign"], exceeding(rows["sign"], runtime.tasks[1].thresholds)).tolist()
    return [
        {
            "tasks": {
                "topic": {"label": topic, "probability": pytest.approx(high, abs=1e-5)},
                "sign": {"labels": signs, "probability": pytest.approx(least, abs=1e-5)},
            }
        }
        for topic, high, signs, least in zip(labels["topic"], highest, labels["sign"], certain, strict=True)
    ]


def test_every_task_has_its_prediction(client: TestClient, runtime: Runtime) -> None:
    answer = client.post("/predict", json={"texts": TEXTS}).json()
    assert answer["predictions"] == expected(runtime, TEXTS)
    assert isinstance(PredictionList.model_validate(answer).predictions[0], TasksPrediction)
    assert client.post("/predict", json={"text": TEXTS[0]}).json() == expected(runtime, TEXTS[:1])[0]


def test_what_a_request_asks_for_is_added_to_every_task(client: TestClient, runtime: Runtime) -> None:
    wanted = {"text": TEXTS[0], "probabilities": True, "top_k": 3, "reject_below": 1}
    tasks = client.post("/predict", json=wanted).json()["tasks"]
    assert tasks["topic"]["label"] == "" and tasks["sign"]["labels"] == [] and tasks["sign"]["set_probability"] < 1
    for task in runtime.tasks:
        (row,), (top,) = runtime.predict_proba(TEXTS[:1])[task.name].tolist(), runtime.top_k(TEXTS[:1], 3)[task.name]
        by_label = dict(zip(task.labels, row, strict=True))
        assert tasks[task.name]["probabilities"] == pytest.approx(by_label, abs=1e-5)
        assert [one["label"] for one in tasks[task.name]["top_k"]] == [label for label, _ in top]
    message = refusal(client.post("/predict", json={"text": TEXTS[0], "top_k": 4}), 422)
    assert "the number of labels must be from 1 to 3" in message
    assert "rejected" in client.get("/metrics").text


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["one process", "two processes"])
def test_the_service_on_the_network(flags: tuple[str, ...], bundle_of_tasks: Path, runtime: Runtime) -> None:
    pytest.importorskip("httptools", reason="pip install -r requirements-dev.txt")
    served = Served(bundle_of_tasks, NOT_NEEDED, *flags)
    for _ in range(4):  # of several processes, each answers some
        body = json.dumps({"texts": TEXTS[:3]}).encode()
        with urlopen(Request(f"{served.url}/predict", body)) as response:  # noqa: S310
            assert json.loads(response.read())["predictions"] == expected(runtime, TEXTS[:3])
    assert served.stop() == 0


def test_a_file_and_readiness(client: TestClient, runtime: Runtime) -> None:
    answer = client.post("/label_file?name=a.csv", content="\n".join(["text", *TEXTS[:4]]).encode())
    rows = [line.split(",") for line in answer.text.splitlines()]
    assert rows[0] == ["text", "topic_predicted", "topic_probability", "sign_predicted", "sign_probability"]
    found = runtime.predict(TEXTS[:4])
    assert [row[1] for row in rows[1:]] == found["topic"]
    assert [row[3] for row in rows[1:]] == ["|".join(labels) for labels in found["sign"]]
    ready = client.get("/ready").json()
    assert ready["tasks"] == [task.card for task in runtime.tasks] and "thresholds" not in ready
    assert ready["labels"] == list(runtime.labels) and Readiness.model_validate(ready)


def test_every_task_is_explained(client: TestClient, runtime: Runtime) -> None:
    answer = client.post("/explain", json={"text": TEXTS[0]}).json()
    assert TasksExplanation.model_validate(answer)
    for task in runtime.tasks:
        own = answer["tasks"][task.name]
        assert own["label"] == runtime.top_k(TEXTS[:1], 1)[task.name][0][0][0] and own["labels"] == list(task.labels)
        assert list(own["student"]["probabilities"]) == list(task.labels) and own["teacher"] is None
        assert "".join(word["word"] for word in own["words"]) == TEXTS[0]
    assert answer["tasks"]["topic"]["words"] != answer["tasks"]["sign"]["words"]


class TaskTeacher(Stub):
    """Gives every text the last of the student's labels of a task."""

    def __init__(self, task: Task) -> None:
        super().__init__(task.labels[::-1], waits=False)
        self.thresholds, self.calls = task.thresholds, list[int]()

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(len(texts))
        return np.tile(np.eye(len(self.labels), dtype=np.float32)[0], (len(texts), 1))


def test_a_cascade_asks_the_teachers_of_the_tasks(runtime: Runtime) -> None:
    by_task = {task.name: TaskTeacher(task) for task in runtime.tasks}
    below = float(np.median(runtime.predict_proba(TEXTS)["topic"].max(axis=1)))
    cascade = Cascade(runtime, by_task, below)
    expected, (_, by_teacher) = cascade.predict(TEXTS), cascade.answer(TEXTS)
    before = {name: sum(teacher.calls) + 1 for name, teacher in by_task.items()}  # one text warms it up
    unsure = UnsureSettings(cascade=True, cascade_below=below)
    with TestClient(create_app(runtime, ServeSettings(), by_task, unsure=unsure)) as client:
        answers = client.post("/predict", json={"texts": TEXTS}).json()["predictions"]
        assert isinstance(PredictionList.model_validate({"predictions": answers}).predictions[0], TasksPrediction)
        for name, key in (("topic", "label"), ("sign", "labels")):
            own = [one["tasks"][name] for one in answers]
            assert [one[key] for one in own] == expected[name]
            assert [one["answered_by"] == "teacher" for one in own] == by_teacher[name].tolist()
            assert sum(by_task[name].calls) - before[name] == by_teacher[name].sum()
        count = int((by_teacher["topic"] | by_teacher["sign"]).sum())
        assert f"distill_teacher_texts_total {count}.0" in client.get("/metrics").text
        lines = client.post("/label_file?name=a.csv", content="\n".join(["text", *TEXTS]).encode()).text.splitlines()
        header, *rows = (line.split(",") for line in lines)
        for name, found in expected.items():
            column = header.index(f"{name}_predicted")
            assert [row[column] for row in rows] == ["|".join(labels) if name == "sign" else labels for labels in found]
        explained = client.post("/explain", json={"text": TEXTS[0]}).json()["tasks"]
        assert explained["topic"]["teacher"]["probabilities"][runtime.tasks[0].labels[2]] == 1
        assert explained["sign"]["teacher"]["labels"] == [runtime.tasks[1].labels[1]]


def test_the_service_has_thresholds_of_the_tasks(runtime: Runtime) -> None:
    unsure = UnsureSettings(task_reject_below=("sign=1",), reject_label="?")
    with TestClient(create_app(runtime, ServeSettings(), unsure=unsure)) as client:
        tasks = client.post("/predict", json={"text": TEXTS[0]}).json()["tasks"]
        assert tasks["topic"]["label"] == runtime.predict(TEXTS[:1])["topic"][0] and tasks["sign"]["labels"] == ["?"]
        tasks = client.post("/predict", json={"text": TEXTS[0], "reject_below": 1}).json()["tasks"]
        assert tasks["topic"]["label"] == "?"
    by_task = {task.name: TaskTeacher(task) for task in runtime.tasks}
    unsure = UnsureSettings(cascade=True, cascade_below=1, task_cascade_below=("topic=0",))
    with TestClient(create_app(runtime, ServeSettings(), by_task, unsure=unsure)) as client:
        tasks = client.post("/predict", json={"text": TEXTS[0]}).json()["tasks"]
        assert (tasks["topic"]["answered_by"], tasks["sign"]["answered_by"]) == ("student", "teacher")
    with pytest.raises(UserError, match="there is no task tone"):
        create_app(runtime, ServeSettings(), unsure=UnsureSettings(task_reject_below=("tone=1",)))


def test_a_cascade_needs_teachers(bundle_of_tasks: Path, runtime: Runtime, tmp_path: Path) -> None:
    unsure = UnsureSettings(cascade=True)
    run, predict = RunSettings(run=str(tmp_path)), PredictSettings(bundle=str(bundle_of_tasks))
    with pytest.raises(UserError, match="there is no trained teacher"):
        _application(Settings(run=run, predict=predict, unsure=unsure), bundle_of_tasks, Totals(1))
    with pytest.raises(UserError, match="--cascade needs a teacher"):
        create_app(runtime, ServeSettings(), Stub(runtime.labels), unsure=unsure)


def test_a_reload_changes_the_kind_of_answer(runtime: Runtime) -> None:
    old = Stub(("体育", "财经"), waits=False)
    app = create_app(old, ServeSettings(allow_reload=True), old, load=lambda: (runtime, "new"))
    with TestClient(app) as client:
        assert "label" in client.post("/predict", json={"text": TEXTS[0]}).json()
        assert len(client.post("/reload").json()["tasks"]) == 2
        assert "tasks" in client.post("/predict", json={"text": TEXTS[0]}).json()


def test_the_schema_has_the_answers_of_tasks(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert {"TasksPrediction", "TasksExplanation", "TaskDescription"} <= set(schemas)


def test_the_page_shows_every_task(browser: Any, runtime: Runtime) -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="pip install -r requirements-dev.txt")
    server = uvicorn.Server(uvicorn.Config(create_app(runtime, ServeSettings(), model="tiny"), log_level="warning"))
    found = runtime.predict(TEXTS[:9])
    signs = [" · ".join(labels) or "—" for labels in found["sign"]]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        visit = Visit(browser, f"http://127.0.0.1:{listener.getsockname()[1]}")
        page = visit.open()
        page.locator("#labels:has-text('共 2 个任务：topic：体育 · 财经 · 科技 / sign：新 · 热')").wait_for()
        ask(page, TEXTS[0])
        first_signs = " ".join(f"「{label}」" for label in found["sign"][0]) or "无类别"
        page.locator(f"#status:text('学生模型：topic：「{found['topic'][0]}」 / sign：{first_signs}。')").wait_for()
        assert page.locator("#results h2").all_inner_texts() == ["topic", "sign"]
        assert [len(bars(page, index)) for index in range(page.locator(".model").count())] == [3, 2]
        ask(page, *TEXTS[:9])
        page.locator("tbody tr").nth(8).wait_for()
        assert page.locator("thead th").all_inner_texts()[2:] == ["topic", "概率", "sign", "概率"]
        assert page.locator("tbody tr td:nth-child(3)").all_inner_texts() == found["topic"]
        assert page.locator("tbody tr td:nth-child(5)").all_inner_texts() == signs
        page.locator("tbody button").first.click()
        page.locator("tr.below h2").nth(1).wait_for()
        assert page.locator("tr.below td").first.get_attribute("colspan") == "6"
        visit.check()
        server.should_exit = True
        thread.join()
