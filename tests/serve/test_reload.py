"""Reloading: the new student replaces the old one as a whole, and one that cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import shutil
import signal
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from numpy.typing import NDArray
from serving import NOT_NEEDED, Served, Stub, TestClient, async_client, refusal, until

from distill.config import PredictSettings, ServeSettings, Settings
from distill.errors import UserError
from distill.serve import _application
from distill.serve.app import create_app
from distill.serve.metrics import Totals

OLD, NEW = ("体育", "财经"), ("教育", "汽车")
TEXT = {"text": "球队"}


def app_of(load: Callable[[], tuple[Any, str]], old: Stub | None = None, teacher: Stub | None = None) -> Any:
    student = old or Stub(OLD, waits=False)
    return create_app(student, ServeSettings(allow_reload=True), teacher, model="old", load=load)


def test_everything_follows_the_new_student() -> None:
    with TestClient(app_of(lambda: (Stub(NEW, waits=False), "new"))) as client:
        assert client.post("/predict", json=TEXT).json()["label"] == OLD[0]
        ready = client.post("/reload")
        assert ready.json() == client.get("/ready").json() and ready.status_code == 200
        assert (ready.json()["model"], ready.json()["labels"]) == ("new", list(NEW))
        assert client.post("/predict", json=TEXT).json()["label"] == NEW[0]
        assert client.post("/explain", json=TEXT).json()["labels"] == list(NEW)
        assert NEW[0] in client.post("/label_file?name=a.csv", content="text\n球队\n".encode()).text


def test_every_status_of_a_reload_is_documented() -> None:
    """409 is the one that only a reload has."""
    responses = app_of(lambda: (Stub(NEW), "new")).openapi()["paths"]["/reload"]["post"]["responses"]
    assert {"200", "409", "422"} <= responses.keys()


def test_requests_in_progress_keep_the_old_student() -> None:
    old = Stub(OLD)

    async def ask() -> tuple[Any, Any, Any]:
        async with async_client(app_of(lambda: (Stub(NEW, waits=False), "new"), old)) as client:
            first = asyncio.create_task(client.post("/predict", json={**TEXT, "probabilities": True}))
            await asyncio.to_thread(old.called.wait, 10)
            second = asyncio.create_task(client.post("/predict", json=TEXT))  # waits for the next batch
            await asyncio.sleep(0.05)
            await client.post("/reload")
            third = await client.post("/predict", json=TEXT)
            assert not first.done() and not second.done()
            old.released.set()
            return await first, await second, third

    first, second, third = asyncio.run(ask())
    assert list(first.json()["probabilities"]) == list(OLD) and second.json()["label"] == OLD[0]
    assert third.json()["label"] == NEW[0]


class Nan(Stub):
    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.full((len(texts), 2), np.nan, np.float32)


class Narrow(Stub):
    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 1), np.float32)


def raises(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (lambda: raises(UserError("a file is missing", "new", "copy it")), "new: a file is missing"),
        (lambda: raises(ValueError("bad")), "cannot be used: ValueError('bad')"),
        (lambda: (Nan(), "new"), "does not return probabilities"),
        (lambda: (Narrow(), "new"), "does not return probabilities"),
    ],
    ids=["a clear error", "another error", "not a number", "too few probabilities"],
)
def test_a_student_that_cannot_be_used_changes_nothing(
    load: Callable[[], Any], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(app_of(load)) as client:
        before = client.get("/ready").json()
        assert expected in refusal(client.post("/reload"), 422)
        assert client.get("/ready").json() == before
        assert client.post("/predict", json=TEXT).json()["label"] == OLD[0]
    [line] = [line for line in caplog.messages if "not loaded again" in line]
    assert expected in line


def test_one_reload_at_a_time() -> None:
    new = Stub(NEW)

    async def ask() -> tuple[Any, Any, Any]:
        async with async_client(app_of(lambda: (new, "new"))) as client:
            first = asyncio.create_task(client.post("/reload"))
            await asyncio.to_thread(new.called.wait, 10)
            second, predicted = await client.post("/reload"), await client.post("/predict", json=TEXT)
            new.released.set()
            return await first, second, predicted

    first, second, predicted = asyncio.run(ask())
    assert first.json()["model"] == "new" and predicted.json()["label"] == OLD[0]  # a reload delays nobody
    assert "being loaded already" in refusal(second, 409)


def test_reloading_is_off_by_default() -> None:
    with TestClient(create_app(Stub(waits=False), ServeSettings())) as client:
        assert refusal(client.post("/reload"), 404)


def test_a_teacher_with_other_labels_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    students = [Stub(NEW, waits=False), Stub(OLD, waits=False)]
    teacher = Stub(OLD, waits=False)
    with TestClient(app_of(lambda: (students.pop(0), "new"), teacher=teacher)) as client:
        assert client.post("/explain", json=TEXT).json()["teacher"] is not None
        assert client.post("/reload").json()["teacher"] is False
        assert client.post("/explain", json=TEXT).json()["teacher"] is None
        assert len([line for line in caplog.messages if "other labels than the teacher" in line]) == 1
        assert client.post("/reload").json()["teacher"] is True  # its labels are those of the student again


def test_sighup_loads_the_bundle_again(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    card = json.loads((copy / "bundle.json").read_text(encoding="utf-8"))
    service = Served(copy, NOT_NEEDED)

    def labels() -> list[str]:
        return list(json.loads(urlopen(f"{service.url}/ready").read())["labels"])  # noqa: S310

    assert labels() == card["labels"]
    renamed = {**card, "labels": [f"{label}新闻" for label in card["labels"]]}
    (copy / "bundle.json").write_text(json.dumps(renamed), encoding="utf-8")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: labels() == renamed["labels"])
    (copy / "bundle.json").write_text("{", encoding="utf-8")
    service.process.send_signal(signal.SIGHUP)
    service.read_until("the bundle was not loaded again")
    assert labels() == renamed["labels"] and service.stop() == 0
    assert "the bundle was loaded again" in service.output and "Traceback" not in service.output


def test_a_reload_frees_the_student_that_it_replaces(bundle: Path) -> None:
    settings = Settings(predict=PredictSettings(bundle=str(bundle)), serve=ServeSettings(with_teacher="no"))
    app, _ = _application(settings, bundle, Totals())
    old = weakref.ref(app.state.endpoints.student.runtime)
    with TestClient(app) as client:
        assert client.post("/predict", json=TEXT).status_code == 200
        assert client.portal is not None
        client.portal.call(app.state.endpoints.reload)
        assert client.post("/predict", json=TEXT).status_code == 200
    gc.collect()
    assert old() is None


def test_a_bad_bundle_is_logged_once_and_sighup_does_not_raise(caplog: pytest.LogCaptureFixture) -> None:
    async def signal_twice() -> None:
        app = app_of(lambda: raises(UserError("a file is missing", "new", "copy it")))
        async with app.router.lifespan_context(app):
            app.state.endpoints.start_reload()
            await asyncio.sleep(0.1)

    with caplog.at_level(logging.INFO):
        asyncio.run(signal_twice())
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
