"""--engine ray gives the labels of the local engine, in the same order, and refuses what it cannot do."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import titles

from distill.cli import main
from distill.data.formats.labelling import OutputSpec
from distill.predict import ray_engine
from distill.runtime import Runtime
from distill.storage import atomic

pytest.importorskip("ray", reason="pip install -r requirements-dev.txt")
pa = pytest.importorskip("pyarrow")

TITLES = [text for text, _ in titles(0, 120)]
SET_COLUMNS = ("predicted", "probability", "set_probability", "answered_by")  # of a label set in a cascade


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two cores, shared by all tests."""
    with ray_engine._cluster(2):
        yield


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Three files of several row groups; every 50th row has no text."""
    from pyarrow import parquet

    (tmp_path / "in").mkdir()
    for part in range(3):
        titles = [TITLES[n % len(TITLES)] if n % 50 else None for n in range(300)]
        table = pa.table({"id": list(range(part * 300, part * 300 + 300)), "title": titles})
        parquet.write_table(table, tmp_path / "in" / f"{part}.parquet", row_group_size=70)
    return tmp_path / "in"


def predict(bundle: Path, *flags: object) -> int:
    return main(["--mode", "predict", "--bundle", str(bundle), "--threads", "2", *map(str, flags)])


def read(folder: Path) -> pa.Table:
    from pyarrow import parquet

    return pa.concat_tables([parquet.read_table(path) for path in sorted(folder.glob("*.parquet"))])


@pytest.mark.usefixtures("cluster")
def test_both_engines_give_the_same_labels(
    bundle: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--input", texts, "--probabilities", "--output"]
    assert predict(bundle, *flags, tmp_path / "ray", "--engine", "ray") == 0
    assert "900 rows, 18 bad rows, " in capsys.readouterr().err
    assert predict(bundle, *flags, tmp_path / "local") == 0
    local, ray = read(tmp_path / "local"), read(tmp_path / "ray")
    assert ray.schema == local.schema and ray["id"].to_pylist() == list(range(900))
    assert ray["predicted"].equals(local["predicted"])
    for name in local.schema.names[3:]:
        np.testing.assert_allclose(ray[name].to_numpy(), local[name].to_numpy(), atol=1e-5)
    assert predict(bundle, *flags, tmp_path / "ray", "--engine", "ray") == 2
    assert "writes a new folder, and this one exists" in capsys.readouterr().err


@pytest.mark.usefixtures("cluster")
def test_both_engines_write_the_columns_of_tasks(
    bundle_of_tasks: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--input", texts / "0.parquet", "--reject_below", "0.5", "--reject_label", "?", "--output"]
    (tmp_path / "local").mkdir()
    assert predict(bundle_of_tasks, *flags, tmp_path / "ray", "--engine", "ray") == 0
    rejected = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rejected: ")]
    assert predict(bundle_of_tasks, *flags, tmp_path / "local") == 0
    assert rejected and rejected[0] in capsys.readouterr().err
    local, ray = read(tmp_path / "local"), read(tmp_path / "ray")
    assert ray.schema == local.schema and ray.schema.names[2:] == [
        "topic_predicted",
        "topic_probability",
        "sign_predicted",
        "sign_probability",
        "sign_set_probability",
    ]
    assert all(ray[name].equals(local[name]) for name in ("topic_predicted", "sign_predicted"))
    assert "?" in ray["topic_predicted"].to_pylist()


def test_the_columns_of_a_cascade_are_known_before_a_teacher_is_loaded(bundle_of_tasks: Path) -> None:
    tasks = Runtime(bundle_of_tasks).tasks
    cards = {task.name: {"labels": task.labels[::-1]} for task in tasks}
    cards["sign"]["thresholds"] = (0.1, 0.2)
    teachers = {name: {"teacher.json": json.dumps(card).encode()} for name, card in cards.items()}
    models = ray_engine.Models(ray_engine._contents(bundle_of_tasks), teachers, {"topic": 0.5, "sign": 0.4})
    cascade = models.classifier(loads_teachers=False)
    spec = OutputSpec.of(cascade, probabilities=False, has_cascade=True)
    assert [task.teacher_thresholds for task in spec.tasks] == [(), (0.2, 0.1)]
    assert spec.columns[2:] == ("topic_answered_by", *(f"sign_{name}" for name in SET_COLUMNS))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_strict(bundle: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--input", texts, "--output", tmp_path / "strict", "--engine", "ray", "--strict"]
    assert predict(bundle, *flags) == 2
    assert "there is no text -> repair or delete that row" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_both_engines_treat_unsure_rows_alike(
    bundle: Path, texts: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--input", texts, "--run", finished_run, "--top_k", 2, "--reject_below", "0.5", "--reject_label", "?"]
    flags += ["--cascade", "--cascade_below", "0.9", "--output"]
    logs = []
    for engine in ("local", "ray"):
        assert predict(bundle, *flags, tmp_path / engine, "--engine", engine) == 0
        logs.append([line for line in capsys.readouterr().err.splitlines() if " of 900 rows" in line])
    local, ray = read(tmp_path / "local"), read(tmp_path / "ray")
    assert ray.schema == local.schema and ray["answered_by"].equals(local["answered_by"])
    assert set(ray["answered_by"].to_pylist()) == {"student", "teacher", None}
    np.testing.assert_allclose(ray["probability"].to_numpy(), local["probability"].to_numpy(), atol=1e-2)
    assert logs[0] == logs[1] and len(logs[0]) == 2


@pytest.fixture
def without_cluster(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], object]], None]:
    """Instead of Ray, a function writes the output's folder."""

    def write_with(function: Callable[[Path], object]) -> None:
        monkeypatch.setattr(ray_engine, "_cluster", lambda cores: contextlib.nullcontext())
        monkeypatch.setattr(ray_engine, "_write", lambda sources, folder, *_: function(Path(folder)))

    return write_with


def write_one(folder: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(pa.table({"predicted": ["a"]}), folder / "0.parquet")


def test_a_stream_is_no_output(bundle: Path, texts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(bundle, "--input", texts, "--output", "-", "--engine", "ray") == 2
    assert "--engine ray writes a folder of Parquet files -> --output FOLDER" in capsys.readouterr().err


def test_an_input_that_changes(
    bundle: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], without_cluster: Any
) -> None:
    changed = texts / "1.parquet"
    without_cluster(lambda folder: (write_one(folder), shutil.copy(texts / "0.parquet", changed)))
    flags = ["--input", texts, "--output", tmp_path / "new" / "out", "--engine", "ray"]
    assert predict(bundle, *flags) == 2
    assert f"{changed}: the input changed while it was labelled -> run the same" in capsys.readouterr().err
    assert not list((tmp_path / "new").iterdir())
    without_cluster(write_one)
    assert predict(bundle, *flags) == 0
    assert [path.name for path in (tmp_path / "new").rglob("*")] == ["out", "0.parquet"]


def test_what_a_killed_job_left_is_removed(bundle: Path, texts: Path, tmp_path: Path, without_cluster: Any) -> None:
    output, seen = tmp_path / "new" / "out", []
    left = tmp_path / "new" / ".out.distill-parts" / ".whole.0.distill-aside" / "old.parquet"
    left.parent.mkdir(parents=True)
    left.touch()
    output.mkdir(0o700)
    without_cluster(lambda folder: (write_one(folder), seen.append(folder.parent.stat().st_mode & 0o777)))
    assert predict(bundle, "--input", texts, "--output", output, "--engine", "ray") == 0
    assert [path.name for path in (tmp_path / "new").rglob("*")] == ["out", "0.parquet"]
    assert seen == [0o700] and output.stat().st_mode & 0o777 == 0o700


def test_killed_when_the_output_is_complete(
    bundle: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_cluster: Any
) -> None:
    """The repeated command ends well; another command for this output is refused."""
    output, flags = (
        tmp_path / "new" / "out",
        ["--input", texts, "--output", tmp_path / "new" / "out", "--engine", "ray"],
    )
    without_cluster(write_one)

    def killed(path: Path) -> None:
        if output.exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ray_engine, "remove", killed)
        assert predict(bundle, *flags) == 130
    without_cluster(lambda folder: pytest.fail("it is labelled again"))
    assert predict(bundle, *flags, "--probabilities") == 2
    assert predict(bundle, *flags) == 0
    assert [path.name for path in (tmp_path / "new").rglob("*")] == ["out", "0.parquet"]
    assert predict(bundle, *flags) == 2


def test_nothing_is_left_of_a_record_that_was_being_written(tmp_path: Path) -> None:
    output, record = tmp_path / "out", {"made": "from"}

    def kill(path: Path, *_: Any) -> None:
        path.write_bytes(b"{")
        os._exit(9)

    def killed() -> None:
        atomic._write_new = kill
        with ray_engine._new_folder(output, record):
            pass

    job = multiprocessing.get_context("fork").Process(target=killed)
    job.start()
    job.join()
    assert job.exitcode == 9 and not output.exists()
    with ray_engine._new_folder(output, record):
        pass
    assert [path.name for path in tmp_path.iterdir() if "ray" not in path.name] == ["out"]


def test_a_full_disk_and_another_process(
    bundle: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], without_cluster: Any
) -> None:
    def full(folder: Path) -> None:
        raise RuntimeError("RayTaskError(OSError): [Errno 28] Error writing bytes: No space left on device")

    without_cluster(full)
    flags = ["--input", texts, "--output", tmp_path / "new" / "out", "--engine", "ray"]
    assert predict(bundle, *flags) == 2
    assert "the disk is full; no incomplete file was left -> free some space" in capsys.readouterr().err
    without_cluster(lambda folder: predict(bundle, *flags))  # meanwhile
    predict(bundle, *flags)
    assert "another process is writing here: process " in capsys.readouterr().err


def test_only_parquet_is_read(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    assert predict(bundle, "--input", tmp_path / "a.csv", "--output", tmp_path / "out", "--engine", "ray") == 2
    assert "--engine ray reads only Parquet -> --engine local, or convert it" in capsys.readouterr().err


@pytest.mark.usefixtures("cluster")
def test_both_engines_give_the_same_lists_of_labels(several_bundle: Path, texts: Path, tmp_path: Path) -> None:
    assert predict(several_bundle, "--input", texts, "--output", tmp_path / "ray", "--engine", "ray") == 0
    assert predict(several_bundle, "--input", texts, "--output", tmp_path / "local") == 0
    rows = read(tmp_path / "ray")
    assert rows.equals(read(tmp_path / "local"))
    assert {None if labels is None else len(labels) for labels in rows["predicted"].to_pylist()} >= {None, 0, 1, 2}
