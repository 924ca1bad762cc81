"""Unsure texts in the service: several labels, rejected texts, and a cascade that nothing else waits for."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from serving import Broken, Stub, TestClient, async_client, refusal

from distill.config import ServeSettings, UnsureSettings
from distill.errors import UserError
from distill.runtime import Cascade
from distill.serve.app import create_app
from distill.serve.batching import WorkerThread
from distill.serve.endpoints import Endpoints
from distill.serve.limits import RefusedError
from distill.serve.unsure import ServedCascade

SURE, UNSURE = "球队夺冠", "新消息"
LABELS = ("体育", "财经", "科技")


class Student(Stub):
    """Sure of one text only."""

    def __init__(self) -> None:
        super().__init__(LABELS, waits=False)

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([[0.9, 0.06, 0.04] if text == SURE else [0.3, 0.5, 0.2] for text in texts], np.float32)


class Teacher(Stub):
    """Predicts 科技; its labels have another order than the student's."""

    def __init__(self, *, waits: bool = False) -> None:
        super().__init__(("科技", "体育", "财经"), waits=waits)
        self.calls: list[list[str]] = []

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        return super().predict_proba(texts)


def client_of(teacher: Stub | None = None, limits: ServeSettings | None = None, **unsure: Any) -> TestClient:
    settings = UnsureSettings(**unsure)
    return TestClient(create_app(Student(), limits or ServeSettings(), teacher, unsure=settings))


def counted(client: TestClient) -> tuple[float, float]:
    """How many texts were rejected, and how many the teacher labelled."""
    metrics = client.get("/metrics").text
    rejected, by_teacher = (
        float(metrics.split(f"\ndistill_{name}_texts_total ")[1].split("\n")[0]) for name in ("rejected", "teacher")
    )
    return rejected, by_teacher


def test_a_request_chooses() -> None:
    with client_of() as client:
        plain = client.post("/predict", json={"texts": [SURE, UNSURE]}).json()["predictions"]
        assert plain == [{"label": "体育", "probability": 0.9}, {"label": "财经", "probability": 0.5}]
        question = {"texts": [SURE, UNSURE], "top_k": 2, "reject_below": 0.6}
        sure, unsure = client.post("/predict", json=question).json()["predictions"]
        assert (sure["label"], sure["probability"], unsure["label"], unsure["probability"]) == ("体育", 0.9, "", 0.5)
        assert unsure["top_k"] == [{"label": "财经", "probability": 0.5}, {"label": "体育", "probability": 0.3}]
        one = client.post("/predict", json={"text": UNSURE, "top_k": 1, "probabilities": True}).json()
        assert one["top_k"] == [{"label": one["label"], "probability": 0.5}] and len(one["probabilities"]) == 3
        assert counted(client) == (1, 0)


def test_the_service_has_defaults() -> None:
    with client_of(top_k=3, reject_below=0.6, reject_label="其他") as client:
        answer = client.post("/predict", json={"text": UNSURE}).json()
        assert answer["label"] == "其他" and [top["label"] for top in answer["top_k"]] == ["财经", "体育", "科技"]
        answer = client.post("/predict", json={"text": UNSURE, "reject_below": 0, "top_k": 1}).json()
        assert answer["label"] == "财经" and len(answer["top_k"]) == 1


@pytest.mark.parametrize("reject_label", ["", "其他"])
def test_a_file(reject_label: str) -> None:
    body = f"id,text\n1,{SURE}\n2,{UNSURE}\n".encode()
    with client_of(reject_label=reject_label) as client:
        answer = client.post("/label_file?name=a.csv&top_k=1&reject_below=0.6", content=body)
        assert answer.text.splitlines() == [
            "id,text,predicted,probability,top_1,top_1_probability",
            f"1,{SURE},体育,0.90000,体育,0.90000",
            f"2,{UNSURE},{reject_label},0.50000,财经,0.50000",
        ]
        assert answer.headers["X-Rejected-Rows"] == "1" and counted(client) == (1, 0)
        for wrong in ("top_k=0", "top_k=4", "reject_below=1.1", "reject_below=nan", "reject_below=x"):
            assert wrong.split("=")[0] in refusal(client.post(f"/label_file?name=a.csv&{wrong}", content=body), 422)


@pytest.mark.parametrize("wrong", [{"top_k": 4}, {"reject_label": "科技"}, {"cascade": True}])
def test_settings_that_do_not_fit_are_refused_at_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        create_app(Student(), ServeSettings(), unsure=UnsureSettings(**wrong))
    assert error.value.hint


def test_a_reload_keeps_to_the_settings() -> None:
    loaded = iter([Stub(("a", "b"), waits=False), Student()])
    app = create_app(
        Student(),
        ServeSettings(allow_reload=True),
        load=lambda: (next(loaded), "new"),  # type: ignore[arg-type,return-value]
        unsure=UnsureSettings(top_k=3),
    )
    with TestClient(app) as client:
        assert "from 1 to 2, not 3" in refusal(client.post("/reload"), 422)
        assert len(client.post("/predict", json={"text": UNSURE}).json()["top_k"]) == 3
        assert client.post("/reload").status_code == 200


def test_a_cascade() -> None:
    teacher = Teacher()
    with client_of(teacher, cascade=True, cascade_below=0.6, reject_below=0.8) as client:
        answers = client.post("/predict", json={"texts": [UNSURE, SURE, "消息"]}).json()["predictions"]
        assert [(one["label"], one["probability"], one["answered_by"]) for one in answers] == [
            ("", 0.75, "teacher"),  # --reject_below applies to the final answer
            ("体育", 0.9, "student"),
            ("", 0.75, "teacher"),
        ]
        kept = client.post("/predict", json={"text": UNSURE, "reject_below": 0, "probabilities": True}).json()
        assert kept["label"] == "科技" and kept["probabilities"] == {"体育": 0.125, "财经": 0.125, "科技": 0.75}
        assert teacher.calls[1:] == [["消息", UNSURE], [UNSURE]]  # the first call warms it up
        assert counted(client) == (2, 3)


def test_a_cascade_labels_files_in_small_batches() -> None:
    teacher = Teacher()
    rows = [SURE, *(UNSURE + "字" * (number % 7) for number in range(300))]
    with client_of(teacher, cascade=True) as client:
        content = "".join([f"{text}\n" for text in ("text", *rows)]).encode()
        answer = client.post("/label_file?name=a.csv", content=content)
        assert counted(client) == (0, 300)
    labelled = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["text"] for row in labelled] == rows
    assert [row["answered_by"] for row in labelled] == ["student", *["teacher"] * 300]
    assert {row["predicted"] for row in labelled[1:]} == {"科技"}
    calls = teacher.calls[1:]
    assert [len(call) for call in calls] == [128, 128, 44]
    lengths = [len(text) for call in calls for text in call]
    assert lengths == sorted(lengths)


def test_a_file_that_takes_too_long_stops_at_the_next_batch() -> None:
    teacher = Teacher(waits=True)
    with client_of(teacher, ServeSettings(wait_s=0.02), cascade=True) as client:
        content = "".join(f"{UNSURE}{number}\n" for number in range(300)).encode()
        assert "longer than 0.4 s" in refusal(client.post("/label_file?name=a.txt", content=content), 503)
        teacher.released.set()
        assert client.post("/predict", json={"text": UNSURE}).json()["label"] == "科技"
    assert [len(call) for call in teacher.calls] == [1, 128, 1]  # the first warms it up


def test_sure_texts_do_not_wait_for_the_teacher() -> None:
    teacher = Teacher(waits=True)
    app = create_app(Student(), ServeSettings(), teacher, unsure=UnsureSettings(cascade=True))

    async def ask() -> tuple[Any, Any]:
        async with async_client(app) as client:
            unsure = [asyncio.create_task(client.post("/predict", json={"text": UNSURE})) for _ in range(3)]
            await asyncio.to_thread(teacher.called.wait, 10)
            sure = await client.post("/predict", json={"text": SURE})
            assert not any(one.done() for one in unsure)
            teacher.released.set()
            return sure, [await one for one in unsure]

    sure, unsure = asyncio.run(ask())
    assert sure.json()["answered_by"] == "student"
    assert {one.json()["label"] for one in unsure} == {"科技"} and len(unsure) == 3


def test_a_slow_teacher_has_the_deadline_of_the_request() -> None:
    teacher = Teacher(waits=True)
    with client_of(teacher, ServeSettings(wait_s=0.05), cascade=True) as client:
        answer = client.post("/predict", json={"text": UNSURE})
        teacher.released.set()
        assert "longer than 0.05 s" in refusal(answer, 503)
        assert client.post("/predict", json={"text": SURE}).json()["label"] == "体育"


def test_an_error_of_the_teacher_is_no_answer() -> None:
    app = create_app(Student(), ServeSettings(), Broken(LABELS), unsure=UnsureSettings(cascade=True))
    with TestClient(app, raise_server_exceptions=False) as client:
        assert refusal(client.post("/predict", json={"text": UNSURE}), 500) == "internal error of the service"
        assert client.post("/predict", json={"text": SURE}).json()["answered_by"] == "student"


def test_a_reload_needs_the_labels_of_the_cascades_teacher() -> None:
    app = create_app(
        Student(),
        ServeSettings(allow_reload=True),
        Teacher(),
        load=lambda: (Stub(("a", "b", "c"), waits=False), "new"),  # type: ignore[arg-type,return-value]
        unsure=UnsureSettings(cascade=True),
    )
    with TestClient(app) as client:
        assert "other labels than the teacher of --cascade" in refusal(client.post("/reload"), 422)
        assert client.post("/predict", json={"text": UNSURE}).json()["label"] == "科技"


@pytest.mark.parametrize("turns", range(12))
def test_a_reload_waits_for_the_teacher_of_earlier_requests(turns: int) -> None:
    unsure = UnsureSettings(cascade=True)

    async def ask() -> Any:
        endpoints = Endpoints(Student(), ServeSettings(), Teacher(), "a", unsure=unsure)  # type: ignore[arg-type]
        student = endpoints.student
        await student.answer([SURE])  # later batches of the student are computed in the event loop
        endpoints._prepared = endpoints.load_again()
        request = asyncio.create_task(student.answer([UNSURE]))
        for _ in range(turns):
            await asyncio.sleep(0)
        endpoints.switch()
        _, by_teacher = await request
        await asyncio.gather(*endpoints._tasks)
        with pytest.raises(RefusedError):
            await student.answer([SURE])  # its batchers have ended
        endpoints.student.close()
        return by_teacher

    assert asyncio.run(ask()) == [[True]]


def test_closing_a_student_refuses_what_waits_for_its_teacher() -> None:
    async def ask() -> None:
        teacher, unsure = Teacher(waits=True), UnsureSettings(cascade=True)
        student = Endpoints(Student(), ServeSettings(), teacher, "a", unsure=unsure).student  # type: ignore[arg-type]
        request = asyncio.create_task(student.answer([UNSURE]))
        await asyncio.to_thread(teacher.called.wait, 10)
        student.close()
        try:
            with pytest.raises(RefusedError, match="the service is stopping"):
                await asyncio.wait_for(request, 5)
        finally:
            teacher.released.set()

    asyncio.run(ask())


def test_the_answers_of_a_teacher_change_no_other_rows() -> None:
    rows = Student().predict_proba([UNSURE, UNSURE])
    given = rows.copy()

    async def ask() -> Any:
        cascade = ServedCascade(Cascade(Student(), Teacher(), 0.6), WorkerThread("teacher", 1, 10))
        return await cascade.answer([UNSURE], rows[:1])

    found, by_teacher = asyncio.run(ask())
    np.testing.assert_array_equal(found, np.array([[0.125, 0.125, 0.75]], np.float32))
    assert by_teacher.tolist() == [[True]]
    np.testing.assert_array_equal(rows, given)  # the student's batch, which other requests share
