"""A killed job resumes where it stopped, no row is lost or repeated, and it starts over if anything changed."""

from __future__ import annotations

import errno
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill import predict
from distill.config import PredictSettings, RunSettings, Settings
from distill.data.formats import parquet, text_lines
from distill.data.formats.labelling import Predictions
from distill.errors import UserError
from distill.predict import checkpoint, sources
from distill.storage.atomic import TEMPORARY_SUFFIX
from distill.storage.locks import exclusive_lock

ROOT = Path(__file__).parents[2]
COUNT = 400


class Killed(BaseException):
    """Not an Exception, so that the program does not catch it."""


class Stub:
    """A student that labels texts by the parity of their length, and is killed after ``remaining`` calls."""

    labels = ("even", "odd")
    remaining = 10**9
    predicted = 0

    def __init__(self, folder: Path) -> None: ...

    def predict_proba(self, texts: list[str]) -> np.ndarray[Any, Any]:
        Stub.remaining -= 1
        Stub.predicted += len(texts)
        if Stub.remaining < 0:
            raise Killed
        odd = np.array([len(text) % 2 for text in texts], np.float32)
        return np.stack([1 - odd, odd], 1) * 0.5 + 0.25


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    for module in (text_lines, parquet):
        monkeypatch.setattr(module, "CHUNK_ROWS", 16)
    monkeypatch.setattr(checkpoint, "PART_ROWS", 48)
    monkeypatch.setattr(sources, "Runtime", Stub)
    Stub.remaining, Stub.predicted = 10**9, 0
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    yield folder


def rows(count: int, first: int = 0) -> str:
    """JSON lines; every 50th is broken."""
    lines = (
        json.dumps({"id": n, "text": "字" * (n % 7 + 1)}) if n % 50 else f"broken {n}" for n in range(first, count)
    )
    return "".join(f"{line}\n" for line in lines)


def label(bundle: Path, source: Path | str, output: Path, **more: Any) -> list[Path]:
    predict_settings = PredictSettings(bundle=str(bundle), input=(str(source),), output=str(output), **more)
    return predict.predict(Settings(run=RunSettings(threads=2), predict=predict_settings))


def killed(bundle: Path, source: Path | str, output: Path, after: int, **more: Any) -> bool:
    """Label until ``after`` chunks were predicted; returns whether that was before the end."""
    Stub.remaining = after
    try:
        label(bundle, source, output, **more)
    except Killed:
        return True
    finally:
        Stub.remaining = 10**9
    return False


def is_complete(output: Path, count: int = COUNT) -> bool:
    """Whether the output has every row once, in order, with the bad rows next to it, and nothing else is left."""
    good = [json.loads(line)["id"] for line in output.read_text("utf-8").splitlines()]
    bad = [json.loads(line)["raw"] for line in Path(f"{output}.bad.jsonl").read_text("utf-8").splitlines()]
    files = sorted(path.name for path in output.parent.iterdir())
    return (
        good == [n for n in range(count) if n % 50]
        and bad == [f"broken {n}" for n in range(0, count, 50)]
        and files == sorted([output.name, f"{output.name}.bad.jsonl"])
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 30), max_size=4))
def test_killed_after_any_chunk(small: Path, tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("cut")
    source, output = folder / "in.jsonl", folder / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    for after in cuts:
        killed(small, source, output, after)
    label(small, source, output)
    assert is_complete(output)


def test_finished_parts_are_not_predicted_again(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    assert killed(small, source, output, 20)
    done = len(list(output.parent.glob(".out.jsonl.distill-parts/0*"))) * 48
    assert done >= 48 * 3
    temporary = output.with_name(".out.jsonl.distill-parts") / f".000009.x{TEMPORARY_SUFFIX}"
    temporary.mkdir()
    checkpoint.Parts(output, "", {})
    assert not temporary.exists()
    Stub.predicted = 0
    with caplog.at_level("INFO"):
        label(small, source, output)
    assert Stub.predicted == COUNT - 8 - done and is_complete(output)
    assert f"resuming after {done} rows that are done" in caplog.text


def test_two_processes_do_not_write_one_output(small: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    with exclusive_lock(output), pytest.raises(UserError, match=r"another process is writing here: process.*--output"):
        label(small, source, output)
    assert not list(output.parent.iterdir())
    assert killed(small, source, output, 20)  # its lock dies with it
    label(small, source, output)
    assert is_complete(output)


def test_a_file_system_without_locks(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_lock(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    monkeypatch.setattr("fcntl.flock", no_lock)
    label(small, source, output)
    assert is_complete(output)


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "the bundle": ({}, "bundle changed"),
    "the input": ({}, "input changed"),
    "the settings": ({"probabilities": True}, "settings changed"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_starts_over(what: str, small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, output, (more, why) = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl", CHANGES[what]
    source.write_text(rows(COUNT))
    assert killed(small, source, output, 20)
    if what == "the bundle":
        (small / "bundle.json").write_text('{"temperature": 2}')
    if what == "the input":
        source.write_text(rows(COUNT - 50))
    with caplog.at_level("INFO"):
        label(small, source, output, **more)
    assert f"starting over: {why}" in caplog.text
    assert is_complete(output, COUNT - 50 if what == "the input" else COUNT)


@pytest.mark.parametrize("after", [0, 9, 20])
def test_standard_input_resumes(after: int, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out" / "out.jsonl"

    def pipe() -> None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(rows(COUNT).encode())))

    pipe()
    assert killed(small, "-", output, after, input_format="jsonl")
    pipe()
    label(small, "-", output, input_format="jsonl")
    assert is_complete(output)


def test_parquet_resumes(small: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"id": list(range(COUNT)), "text": ["字" * (n % 7 + 1) if n % 50 else None for n in range(COUNT)]})
    parquet.write_table(table, tmp_path / "in.parquet", row_group_size=90)
    output = tmp_path / "out" / "out.parquet"
    for after in (5, 9, 14):
        assert killed(small, tmp_path / "in.parquet", output, after)
    label(small, tmp_path / "in.parquet", output)
    labelled = parquet.read_table(output)
    assert labelled.select(["id", "text"]).equals(table)
    texts = table["text"].to_pylist()
    assert labelled["predicted"].to_pylist() == [text and Stub.labels[len(text) % 2] for text in texts]


@pytest.mark.parametrize("step", ["put_in_place", "write_json", "remove"])
def test_killed_while_the_parts_are_joined(
    step: str, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    join = checkpoint.Parts.join

    def fail(path: Path, *_: object) -> None:
        (path / checkpoint.PART_CARD).unlink(missing_ok=True)
        raise Killed

    def killed_join(parts: checkpoint.Parts, row_file: Any) -> None:
        monkeypatch.setattr(checkpoint, step, fail)
        join(parts, row_file)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Parts, "join", killed_join)
        with pytest.raises(Killed):
            label(small, source, output)
    monkeypatch.undo()
    Stub.predicted = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "Runtime", Stub)
        label(small, source, output)
    assert Stub.predicted == 0 and is_complete(output)


def test_killed_while_the_parts_are_removed(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    assert killed(small, source, output, 20)
    parts = checkpoint.Parts(output, "", {})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "remove", lambda folder: shutil.rmtree(folder / "000000"))
        parts.remove()
    label(small, source, output)
    assert is_complete(output)


def test_a_removed_output_is_made_again(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Parts, "remove", lambda self: None)
        label(small, source, output)
    output.unlink()
    label(small, source, output)
    assert is_complete(output)


def test_finished_files_of_a_folder_are_not_labelled_again(small: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{name}.jsonl").write_text(rows(COUNT))
    assert killed(small, tmp_path / "in", tmp_path / "out", 40)
    assert (tmp_path / "out" / "a.jsonl").exists() and not (tmp_path / "out" / "b.jsonl").exists()
    Stub.predicted = 0
    label(small, tmp_path / "in", tmp_path / "out")
    assert Stub.predicted < COUNT
    names = ["a.jsonl", "a.jsonl.bad.jsonl", "b.jsonl", "b.jsonl.bad.jsonl"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


COMMAND = """if True:
    import sys, time
    sys.path[:0] = ["tests", "tests/predict"]
    import test_resuming as this
    from distill.data.formats import text_lines
    from distill.predict import checkpoint, sources
    from pathlib import Path
    text_lines.CHUNK_ROWS, checkpoint.PART_ROWS, sources.Runtime = 16, 48, this.Stub
    answer = this.Stub.predict_proba
    this.Stub.predict_proba = lambda self, texts: (time.sleep(0.02), answer(self, texts))[1]
    print("begun", flush=True)
    this.label(*map(Path, sys.argv[1:]))
"""


def test_killed_by_the_system_at_random_moments(small: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no time to clean up."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(4 * COUNT))
    moments, kills = random.Random(7), 0
    while kills < 6:
        command = [sys.executable, "-c", COMMAND, str(small), str(source), str(output)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            assert process.stdout and process.stdout.readline() == b"begun\n"
            try:
                process.wait(moments.uniform(0.02, 0.4))
            except subprocess.TimeoutExpired:
                process.kill()
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
        time.sleep(0.01)
    else:
        label(small, source, output)
    assert process.returncode in (0, -signal.SIGKILL) and kills >= 2
    assert is_complete(output, 4 * COUNT)


def test_predictions_are_those_of_the_texts() -> None:
    predictions = Predictions.of(Stub(Path()).predict_proba(["字", "字字"]))
    assert predictions.classes.tolist() == [1, 0] and predictions.probability.tolist() == [0.75, 0.75]
