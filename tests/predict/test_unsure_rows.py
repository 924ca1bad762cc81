"""Unsure rows: several labels, rejection and a cascade, in every format, with both engines, and when a job resumes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openpyxl
import pytest
from conftest import titles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from distill import load_teacher, predict
from distill.cli import main
from distill.config import PredictSettings, RunSettings, Settings, UnsureSettings
from distill.data.formats import parquet, text_lines
from distill.predict import checkpoint, local, sources
from distill.predict.plan import FileJob
from distill.predict.teacher import LazyTeacher
from distill.runtime import Cascade, Runtime

ROOT = Path(__file__).parents[2]
TEXTS = [text for text, _ in titles(0, 60)]
SUFFIXES = ("txt", "csv", "tsv", "jsonl", "parquet", "xlsx")
TOP = ["top_1", "top_1_probability", "top_2", "top_2_probability"]
Row = dict[str, Any]


def run(bundle: Path, source: Path, output: Path, *flags: object) -> int:
    paths = ["--bundle", bundle, "--input", source, "--output", output]
    return main(["--mode", "predict", "--threads", "2", *map(str, [*paths, *flags])])


def write(path: Path, texts: Sequence[str]) -> Path:
    """Write texts, with their numbers, in the format of the suffix."""
    rows = list(enumerate(texts))
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"id": [n for n, _ in rows], "text": list(texts)}), path, row_group_size=50)
    elif path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in [("id", "text"), *rows]:
            book.active.append(row)
        book.save(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in rows))
    elif path.suffix == ".txt":
        path.write_text("".join(f"{text}\t{n}\n" for n, text in rows), encoding="utf-8")
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        path.write_text("".join(f"{n}{mark}{text}\n" for n, text in [("id", "text"), *rows]), encoding="utf-8")
    return path


def read(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of an output, with the new ``columns`` of a file without a header; the list of JSON becomes columns."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return list(parquet.read_table(path).to_pylist())
    content = path.read_text("utf-8-sig")
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in content.splitlines()]
        return [row | _columns_of(row.pop("top_k", [])) for row in rows]
    mark = "," if path.suffix == ".csv" else "\t"
    header = "\t".join(["text", "id", *columns]) + "\n" if path.suffix == ".txt" else ""
    return list(csv.DictReader(io.StringIO(header + content), delimiter=mark, quoting=csv.QUOTE_NONE))


def _columns_of(top: list[Row]) -> Row:
    names = {f"top_{rank}": one["label"] for rank, one in enumerate(top, 1)}
    return names | {f"top_{rank}_probability": one["probability"] for rank, one in enumerate(top, 1)}


@pytest.mark.parametrize("reject_label", ["", "其他"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_of_unsure_rows(
    suffix: str, reject_label: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = Runtime(bundle)
    probabilities = runtime.predict_proba(TEXTS)
    threshold = float(np.median(probabilities.max(axis=1)))
    source, output = write(tmp_path / f"in.{suffix}", TEXTS), tmp_path / f"out.{suffix}".replace("xlsx", "csv")
    flags = ["--top_k", 2, "--reject_below", threshold, *(["--reject_label", reject_label] if reject_label else [])]
    assert run(bundle, source, output, *flags) == 0
    rows = read(output, ["predicted", "probability", *TOP])
    assert [list(row)[2:] for row in rows] == [
        ["predicted", "probability", *(sorted(TOP, key=len) if suffix == "jsonl" else TOP)]
    ] * len(TEXTS)
    assert [(row["text"], int(row["id"])) for row in rows] == [(text, n) for n, text in enumerate(TEXTS)]
    assert [row["predicted"] for row in rows] == runtime.predict(
        TEXTS, reject_below=threshold, reject_label=reject_label
    )
    for row, top in zip(rows, runtime.top_k(TEXTS, 2), strict=True):
        assert [row["top_1"], row["top_2"]] == [label for label, _ in top]
        values = [float(row[name]) for name in ("probability", "top_1_probability", "top_2_probability")]
        np.testing.assert_allclose(values, [top[0][1], *(value for _, value in top)], atol=1e-4)
    rejected = sum(row["predicted"] == reject_label for row in rows)
    assert 20 < rejected < 40
    assert f"rejected: {rejected} of 60 rows (the probability is below {threshold:g})" in capsys.readouterr().err


def test_rows_without_text_are_neither_rejected_nor_sent_to_the_teacher(
    bundle: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = write(tmp_path / "in.parquet", [TEXTS[0], "", " "]), tmp_path / "out.parquet"
    flags = ["--reject_below", 1, "--top_k", 1, "--cascade", "--cascade_below", 1, "--run", finished_run]
    assert run(bundle, source, output, *flags) == 0
    names = ("predicted", "probability", "answered_by", "top_1", "top_1_probability")
    rows = read(output, ())
    assert rows[0]["predicted"] == "" and rows[0]["answered_by"] == "teacher"
    assert all(row[name] is None for row in rows[1:] for name in names)
    log = capsys.readouterr().err
    assert "rejected: 1 of 3 rows" in log and "labelled by the teacher: 1 of 3 rows" in log


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_the_teacher_labels_unsure_rows(
    suffix: str, bundle: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, teacher = Runtime(bundle), load_teacher(finished_run / "teacher")
    probabilities = student.predict_proba(TEXTS)
    below = float(np.median(probabilities.max(axis=1)))
    cascade = Cascade(student, teacher.predict_proba, below, teacher.labels)
    source, output = write(tmp_path / f"in.{suffix}", TEXTS), tmp_path / f"out.{suffix}"
    assert run(bundle, source, output, "--cascade", "--cascade_below", below, "--run", finished_run) == 0
    rows = read(output, ())
    expected, by_teacher = cascade.answer(TEXTS)
    assert [row["text"] for row in rows] == TEXTS
    assert [row["predicted"] for row in rows] == cascade.predict(TEXTS)
    assert [row["answered_by"] for row in rows] == [("student", "teacher")[one] for one in by_teacher.tolist()]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], expected.max(axis=1), atol=2e-3)
    count = f"labelled by the teacher: {by_teacher.sum()} of 60 rows (the student's probability is below {below:g})"
    assert count in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--top_k", "4"], "top_k: the number of labels must be from 1 to 3, not 4; the labels are "),
        (["--top_k", "-1"], "--top_k is -1, must be at least 0"),
        (["--reject_below", "1.5"], "--reject_below is 1.5, must be between 0 and 1"),
        (["--reject_below", "nan"], "--reject_below is nan, must be between 0 and 1"),
        (
            ["--reject_below", "0.5", "--reject_label", "体育"],
            "reject_label: '体育' is a label of the data, so rejected",
        ),
        (["--reject_label", "其他"], "--reject_label has no effect without --reject_below"),
        (
            ["--cascade_below", "0.5"],
            "--cascade_below has no effect without --cascade -> --cascade --cascade_below 0.5",
        ),
        (["--cascade", "--cascade_below", "-1"], "--cascade_below is -1.0, must be between 0 and 1"),
        (["--cascade"], "there is no trained teacher -> python distill.py --mode train_teacher, or --run FOLDER"),
        (["--cascade", "--with_teacher", "no"], "--with_teacher no: --cascade needs the teacher"),
    ],
)
def test_refused_settings(
    flags: list[str], expected: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.csv", TEXTS[:2])
    assert run(bundle, source, tmp_path / "out.csv", *flags, "--run", tmp_path / "none") == 2
    assert expected in capsys.readouterr().err and not (tmp_path / "out.csv").exists()


def test_a_new_column_that_is_there_already(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.csv"
    source.write_text("text,top_1\n好,a\n")
    assert run(bundle, source, tmp_path / "out.csv", "--top_k", 1) == 2
    assert "there is already a column top_1" in capsys.readouterr().err
    assert run(bundle, source, tmp_path / "out.csv") == 0


def test_a_cascade_without_pytorch(bundle: Path, finished_run: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", TEXTS[:2])
    paths = ["--bundle", bundle, "--run", finished_run, "--input", source, "--output", tmp_path / "out.csv"]
    code = (
        "import sys, importlib.util; found = importlib.util.find_spec; sys.modules['torch'] = None\n"
        "importlib.util.find_spec = lambda name: None if name == 'torch' else found(name)\n"
        "from distill.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "--mode", "predict", "--cascade", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "the teacher needs PyTorch -> pip install" in done.stderr, done.stderr
    assert "or leave out --cascade" in done.stderr


class Killed(BaseException):
    """Not an Exception, so that the program does not catch it."""


class Student:
    """Is sure of texts of even length, and is killed after ``remaining`` calls."""

    labels = ("a", "b")
    remaining = 10**9

    def __init__(self, folder: Path) -> None: ...

    def predict_proba(self, texts: list[str]) -> NDArray[np.float32]:
        Student.remaining -= 1
        if Student.remaining < 0:
            raise Killed
        return np.array([[0.9, 0.1] if len(text) % 2 == 0 else [0.6, 0.4] for text in texts], np.float32)


class Teacher:
    """Its probabilities depend on the texts that it gets at a time, as in bfloat16."""

    fingerprints: dict[str, str] = {"model": "1"}  # noqa: RUF012 (replaced as a whole)

    def predict_proba(self, texts: list[str]) -> NDArray[np.float32]:
        value = 0.5 + sum(map(len, texts)) % 97 / 1000
        return np.tile(np.array([[1 - value, value]], np.float32), (len(texts), 1))

    def cascade(self, student: Student, below: float) -> Cascade:
        return Cascade(student, self.predict_proba, below)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A bundle's folder; chunks of 16 rows, parts of 48."""
    for module in (text_lines, parquet):
        monkeypatch.setattr(module, "CHUNK_ROWS", 16)
    monkeypatch.setattr(checkpoint, "PART_ROWS", 48)
    monkeypatch.setattr(sources, "Runtime", Student)
    monkeypatch.setattr(local, "find_teacher", lambda settings, labels, thresholds, tasks: Teacher())
    Student.remaining = 10**9
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    return folder


def label(bundle: Path, source: Path, output: Path, after: int = 10**9, **unsure: Any) -> None:
    """Label ``source`` until the student was called ``after`` times."""
    paths = PredictSettings(bundle=str(bundle), input=(str(source),), output=str(output))
    Student.remaining = after
    try:
        predict.predict(Settings(run=RunSettings(threads=2), predict=paths, unsure=UnsureSettings(**unsure)))
    except Killed:
        assert after < 10**9
    finally:
        Student.remaining = 10**9


EVERYTHING: dict[str, Any] = {"top_k": 2, "reject_below": 0.55, "reject_label": "?", "cascade": True}


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 25), max_size=3), suffix=st.sampled_from(["csv", "jsonl", "parquet"]))
def test_a_resumed_job_writes_the_same_bytes(
    small: Path, tmp_path_factory: pytest.TempPathFactory, cuts: list[int], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    source = write(folder / f"in.{suffix}", ["字" * (n % 11 + 1) for n in range(400)])
    label(small, source, folder / f"whole.{suffix}", **EVERYTHING)
    for after in cuts:
        label(small, source, folder / f"out.{suffix}", after, **EVERYTHING)
    label(small, source, folder / f"out.{suffix}", **EVERYTHING)
    assert (folder / f"out.{suffix}").read_bytes() == (folder / f"whole.{suffix}").read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"top_k": 1}, {"reject_below": 0.7}, {"reject_label": "!"}, {"cascade_below": 0.7}, {"cascade": False}, {}],
)
def test_a_job_with_other_settings_starts_over(
    change: dict[str, Any], small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, output = write(tmp_path / "in.csv", ["字" * (n % 11 + 1) for n in range(400)]), tmp_path / "out.csv"
    label(small, source, output, 20, **EVERYTHING)
    with caplog.at_level("INFO"):
        label(small, source, output, **EVERYTHING | change)
    assert ("starting over" in caplog.text) == bool(change) and ("resuming after" in caplog.text) != bool(change)


def test_another_teacher_starts_over(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source, output = write(tmp_path / "in.csv", ["字" * (n % 11 + 1) for n in range(400)]), tmp_path / "out.csv"
    label(small, source, output, 20, cascade=True)
    monkeypatch.setattr(Teacher, "fingerprints", {"model": "2"})
    with caplog.at_level("INFO"):
        label(small, source, output, cascade=True)
    assert "starting over: cascade changed" in caplog.text


def test_parts_of_a_job_without_these_settings_stay_usable(small: Path) -> None:
    """Their record is that of the versions before; None equals a key that is missing."""
    record = local.Labeller(small, Settings())._provenance(FileJob(None, None, ".csv"))
    settings = {"text_column": "", "probabilities": False, "escape_formulas": True, "strict": False}
    assert record == {"bundle": record["bundle"], "cascade": None, "format": ".csv", "settings": settings}
    counts = checkpoint.Counts(rows=3, bad=1)
    assert (counts + checkpoint.Counts(1, 1, 1, 1)) == checkpoint.Counts(4, 2, 1, 1)


def test_nothing_is_computed_for_settings_that_are_off(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise AssertionError

    for module, name in ((text_lines, "top_classes"), (local, "find_teacher")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr("distill.data.formats.labelling.classes_of", fail)
    label(small, write(tmp_path / "in.csv", TEXTS), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text("utf-8").splitlines()[:2] == [
        "id,text,predicted,probability",
        f"0,{TEXTS[0]},a,{'0.90000' if len(TEXTS[0]) % 2 == 0 else '0.60000'}",
    ]


def test_the_teacher_takes_one_thread_at_a_time(tmp_path: Path) -> None:
    """PyTorch uses all cores itself."""
    from concurrent.futures import ThreadPoolExecutor
    from time import sleep

    active = []

    def classify(texts: list[str]) -> int:
        active.append(1)
        sleep(0.01)
        assert len(active) == 1
        active.pop()
        return len(texts)

    teacher = LazyTeacher(tmp_path)
    teacher.__dict__["_classifier"] = SimpleNamespace(predict_proba=classify)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(teacher.predict_proba, [["好"]] * 8)) == [1] * 8
