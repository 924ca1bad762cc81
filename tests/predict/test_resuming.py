"""A killed job resumes where it stopped, no row is lost or repeated, and it starts over if anything changed."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
from distill.predict import checkpoint, local, sources
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


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        with contextlib.suppress(OSError):
            (path / checkpoint.PART_CARD).unlink()  # as a removal that was killed
        raise Killed

    with monkeypatch.context() as patch:

        def killed_join(parts: checkpoint.Parts, row_file: Any) -> None:
            patch.setattr(checkpoint, step, fail)
            join(parts, row_file)

        patch.setattr(checkpoint.Parts, "join", killed_join)
        with pytest.raises(Killed):
            label(small, source, output)
    Stub.predicted = 0
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


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def change_card(part: Path, section: str, field: str) -> None:
    path = part / checkpoint.PART_CARD
    card = json.loads(path.read_text())
    card[section][field] += 1
    path.write_text(json.dumps(card))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no rows": lambda part: (part / "rows").write_bytes(b""),
    "other rows": lambda part: flip_a_bit(part / "rows"),
    "no bad rows": lambda part: (part / "bad.jsonl").unlink(),
    "other bad rows": lambda part: flip_a_bit(part / "bad.jsonl"),
    "an empty card": lambda part: (part / "part.json").write_bytes(b""),
    "a list as card": lambda part: (part / "part.json").write_text("[]"),
    "another number of rows": lambda part: change_card(part, "counts", "rows"),
    "another end": lambda part: change_card(part, "end", "offset"),
    "no part": shutil.rmtree,
    "a file": lambda part: (shutil.rmtree(part), part.write_bytes(b"")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_and_those_after_it_are_made_again(
    damage: str, small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    assert killed(small, source, output, 20)
    DAMAGES[damage](output.with_name(".out.jsonl.distill-parts") / "000001")
    Stub.predicted = 0
    with caplog.at_level("INFO"):
        label(small, source, output)
    assert "part 000001 is damaged or missing; it and the parts after it are made again" in caplog.text
    assert Stub.predicted == COUNT - 8 - 48 and is_complete(output)


def test_a_part_is_checked_before_it_is_joined(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    join = checkpoint.Parts.join

    def damaged(parts: checkpoint.Parts, row_file: Any) -> None:
        flip_a_bit(parts.folder / "000002" / "rows")
        join(parts, row_file)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Parts, "join", damaged)
        with pytest.raises(UserError, match=r"000002: this part was damaged .* -> run the same command again"):
            label(small, source, output)
    assert not output.exists()
    label(small, source, output)
    assert is_complete(output)


@pytest.mark.parametrize("name", [".done.json.1.distill-aside", "whole", ".000009.x.distill-old", "000007"])
@pytest.mark.parametrize("is_file", [True, False])
def test_whatever_a_kill_leaves_is_removed(name: str, is_file: bool, small: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    assert killed(small, source, output, 12)
    left = output.with_name(".out.jsonl.distill-parts") / name
    if is_file:
        left.write_bytes(b"")
    else:
        (left / "folder").mkdir(parents=True)
    label(small, source, output)
    assert is_complete(output)


@pytest.mark.parametrize("name", ["made_from.json", "done.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"size"'])
def test_broken_records_start_the_job_over(
    name: str, content: str, small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    assert killed(small, source, output, 12)
    (output.with_name(".out.jsonl.distill-parts") / name).write_text(content)
    with caplog.at_level("INFO"):
        label(small, source, output)
    assert "starting over: " in caplog.text and is_complete(output)


def rewritten(source: Path) -> None:
    """The same size and time, and the same file, but other rows."""
    status = source.stat()
    source.write_text(source.read_text().replace('"id": 1,', '"id": 7,'))
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(source: Path) -> None:
    """Another file whose size, time and beginning are the same."""
    other = source.with_name("other.jsonl")
    shutil.copy2(source, other)
    other.replace(source)


INPUT_CHANGES: dict[str, Callable[[Path], object]] = {
    "appended to": lambda source: source.open("a").write("{}\n"),
    "rewritten": rewritten,
    "replaced": replaced,
    "removed": Path.unlink,
}


@pytest.mark.parametrize("to_stream", [False, True])
@pytest.mark.parametrize("change", INPUT_CHANGES)
def test_an_input_that_changes_while_it_is_labelled(
    change: str, to_stream: bool, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    predict_proba, calls = Stub.predict_proba, iter(range(1000))

    def changing(self: Stub, texts: list[str]) -> Any:
        if next(calls) == 24:  # the last one
            INPUT_CHANGES[change](source)
        return predict_proba(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr(Stub, "predict_proba", changing)
        with pytest.raises(UserError, match=r"in.jsonl: the input changed while it was labelled -> run the same comm"):
            label(small, source, Path("-") if to_stream else output)
    assert to_stream or not list(output.parent.iterdir())
    source.write_text(rows(COUNT))
    label(small, source, output)
    assert is_complete(output)


def test_a_bundle_that_changes_while_it_is_read(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change_bundle(self: Stub, folder: Path) -> None:
        (folder / "bundle.json").write_text("{} ")

    (tmp_path / "in.jsonl").write_text(rows(COUNT))
    monkeypatch.setattr(Stub, "__init__", change_bundle)
    with pytest.raises(UserError, match="the bundle changed while it was read -> run the same command again"):
        label(small, tmp_path / "in.jsonl", tmp_path / "out.jsonl")


def test_a_private_output_stays_private(small: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    output.parent.mkdir()
    output.touch(0o600)
    assert killed(small, source, output, 20)
    assert output.with_name(".out.jsonl.distill-parts").stat().st_mode & 0o777 == 0o700
    label(small, source, output)
    assert [path.stat().st_mode & 0o777 for path in output.parent.iterdir()] == [0o600, 0o600] and is_complete(output)


def test_the_target_of_a_link_is_replaced(small: Path, tmp_path: Path) -> None:
    source, output, link = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl", tmp_path / "link.jsonl"
    source.write_text(rows(COUNT))
    output.parent.mkdir()
    link.symlink_to(output)
    assert killed(small, source, link, 20)
    assert label(small, source, link) == [output, Path(f"{output}.bad.jsonl")]
    assert link.readlink() == output and is_complete(output)


def test_the_parts_of_a_process_that_took_over_are_left_alone(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the end of a file and the end of the command, another process may begin with the same output."""
    source, output = tmp_path / "in.jsonl", tmp_path / "out" / "out.jsonl"
    source.write_text(rows(COUNT))
    to_file = local.Labeller.to_file

    def then_taken_over(self: local.Labeller, job: Any, path: Path) -> Any:
        parts = to_file(self, job, path)
        (parts.folder / checkpoint.DONE).unlink()
        return parts

    monkeypatch.setattr(local.Labeller, "to_file", then_taken_over)
    label(small, source, output)
    assert output.with_name(".out.jsonl.distill-parts").is_dir()


def test_predictions_are_those_of_the_texts() -> None:
    predictions = Predictions.of(Stub(Path()).predict_proba(["字", "字字"]))
    assert predictions.classes.tolist() == [1, 0] and predictions.probability.tolist() == [0.75, 0.75]
