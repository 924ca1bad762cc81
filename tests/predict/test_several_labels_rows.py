"""Rows of a student that gives a text any number of labels, in every format."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from conftest import multi_label_student, titles
from numpy.typing import NDArray

from distill.cli import main
from distill.export.bundle import export_bundle
from distill.predict import local
from distill.runtime import Cascade, Runtime
from distill.runtime.label_sets import exceeding, set_probability

TEXTS = [text for text, _ in titles(0, 60)]
SUFFIXES = ("txt", "csv", "tsv", "jsonl", "parquet", "xlsx")
Row = dict[str, Any]


def run(bundle: Path, source: Path, output: Path, *flags: object) -> int:
    paths = ["--bundle", bundle, "--input", source, "--output", output]
    return main(["--mode", "predict", "--threads", "2", *map(str, [*paths, *flags])])


def write(path: Path, texts: Sequence[str] = TEXTS) -> Path:
    """One text per row, in the format of the suffix."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"text": list(texts)}), path, row_group_size=25)
    elif path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for text in ["text", *texts]:
            book.active.append([text, "x"])
        book.save(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        header = [] if path.suffix == ".txt" else ["text"]
        path.write_text("".join(f"{text}\n" for text in [*header, *texts]), encoding="utf-8")
    return path


def read(path: Path, columns: Sequence[str] = ()) -> list[Row]:
    """The rows of an output; ``columns`` are the new ones of a file without a header."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return list(parquet.read_table(path).to_pylist())
    content = path.read_text("utf-8-sig").splitlines()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in content]
    mark = "," if path.suffix == ".csv" else "\t"
    return list(csv.DictReader(content, ["text", *columns] if path.suffix == ".txt" else None, delimiter=mark))


def certainty_of(probabilities: Any, labels: Sequence[str], given: Sequence[Sequence[str]]) -> list[float]:
    """Of the least certain decision about each text."""
    rows = zip(probabilities.tolist(), given, strict=True)
    return [min(p if label in own else 1 - p for label, p in zip(labels, row, strict=True)) for row, own in rows]


@pytest.mark.parametrize("flags", [[], ["--top_k", "1"]], ids=["kernels", "python"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_row_gets_its_labels(
    suffix: str, flags: list[str], several_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = Runtime(several_bundle)
    output = tmp_path / f"out.{suffix}".replace("xlsx", "csv")
    assert run(several_bundle, write(tmp_path / f"in.{suffix}"), output, *flags) == 0
    assert "a text may have any number of labels; in tables and plain text they are joined by |" in (
        capsys.readouterr().err
    )
    rows = read(output, ["predicted", "probability", "top_1", "top_1_probability"])
    expected = runtime.predict(TEXTS)
    assert {len(labels) for labels in expected} >= {0, 1, 2}
    is_list = suffix in ("jsonl", "parquet")
    assert [row["text"] for row in rows] == TEXTS
    assert [row["predicted"] for row in rows] == [labels if is_list else "|".join(labels) for labels in expected]
    np.testing.assert_allclose(
        [float(row["probability"]) for row in rows],
        certainty_of(runtime.predict_proba(TEXTS), runtime.labels, expected),
        atol=1e-4,
    )
    if flags:
        tops = [row["top_k"][0]["label"] if suffix == "jsonl" else row["top_1"] for row in rows]
        assert tops == [top[0][0] for top in runtime.top_k(TEXTS, 1)]


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl"])
def test_labels_with_the_separator_are_json_lists(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = export_bundle(multi_label_student(tmp_path / "student", ("a|b", 'c"', "=d")), tmp_path / "bundle")
    output = tmp_path / f"out.{suffix}"
    assert run(bundle, write(tmp_path / f"in.{suffix}"), output, "--probabilities") == 0
    assert "they are a JSON list, since a label contains |" in capsys.readouterr().err
    expected = Runtime(bundle).predict(TEXTS)
    if suffix == "jsonl":
        assert [row["predicted"] for row in read(output)] == expected
    elif suffix == "csv":
        assert [json.loads(row["predicted"]) for row in read(output)] == expected
    else:
        lines = output.read_text("utf-8").splitlines()
        assert [json.loads(line.split("\t")[1]) for line in lines] == expected


def test_a_row_without_text_has_no_list(several_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    assert run(several_bundle, write(tmp_path / "in.parquet", ["", *TEXTS[:3]]), tmp_path / "out.parquet") == 0
    rows = read(tmp_path / "out.parquet")
    assert rows[0]["predicted"] is None and rows[0]["probability"] is None
    assert [row["predicted"] for row in rows[1:]] == Runtime(several_bundle).predict(TEXTS[:3])


def together_of(runtime: Runtime) -> NDArray[np.float32]:
    """The probability of every text's label set."""
    probabilities = runtime.predict_proba(TEXTS)
    return set_probability(probabilities, exceeding(probabilities, runtime.thresholds))


@pytest.mark.parametrize("reject_label", ["", "其他"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_sets_whose_probability_is_low_are_rejected(
    suffix: str, reject_label: str, several_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime, output = Runtime(several_bundle), tmp_path / f"out.{suffix}".replace("xlsx", "csv")
    together = together_of(runtime)
    below = float(np.median(together))
    flags = ["--reject_below", below, *(["--reject_label", reject_label] if reject_label else [])]
    assert run(several_bundle, write(tmp_path / f"in.{suffix}"), output, *flags) == 0
    rejected = int((together < np.float32(below)).sum())
    assert f"rejected: {rejected} of 60 rows" in capsys.readouterr().err and 20 < rejected < 40
    rows = read(output, ["predicted", "probability", "set_probability"])
    assert [name for name in rows[0] if name not in ("text", "x")][:3] == [
        "predicted",
        "probability",
        "set_probability",
    ]
    expected = runtime.predict(TEXTS, reject_below=below, reject_label=reject_label)
    is_list = suffix in ("jsonl", "parquet")
    assert [row["predicted"] for row in rows] == [labels if is_list else "|".join(labels) for labels in expected]
    np.testing.assert_allclose([float(row["set_probability"]) for row in rows], together, atol=1e-4)
    least = certainty_of(runtime.predict_proba(TEXTS), runtime.labels, runtime.predict(TEXTS))
    np.testing.assert_allclose([float(row["probability"]) for row in rows], least, atol=1e-4)


class TeacherOfSets:
    """Gives every text the second of the student's labels, by thresholds of its own."""

    fingerprints: dict[str, str] = {"model": "1"}  # noqa: RUF012 (of the class)

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels, self.thresholds = labels, (0.9, 0.2, 0.9)

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.array([0.8, 0.3, 0.8], np.float32), (len(texts), 1))

    def cascade(self, student: Runtime, below: float) -> Cascade:
        return Cascade(student, self, below)


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "parquet"])
def test_unsure_rows_get_the_set_of_the_teacher(
    suffix: str,
    several_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runtime, output = Runtime(several_bundle), tmp_path / f"out.{suffix}"
    below, teacher = float(np.median(together_of(runtime))), TeacherOfSets(runtime.labels)
    monkeypatch.setattr(local, "find_teacher", lambda settings, labels, thresholds, tasks: teacher)
    flags = ["--cascade", "--cascade_below", below, "--reject_below", 0.01, "--top_k", 1]
    assert run(several_bundle, write(tmp_path / f"in.{suffix}"), output, *flags) == 0
    cascade = teacher.cascade(runtime, below)
    _, by_teacher = cascade.answer(TEXTS)
    columns = ["predicted", "probability", "set_probability", "answered_by", "top_1", "top_1_probability"]
    rows, is_list = read(output, columns), suffix in ("jsonl", "parquet")
    expected = cascade.predict(TEXTS, reject_below=0.01)
    assert [row["predicted"] for row in rows] == [labels if is_list else "|".join(labels) for labels in expected]
    assert [row["answered_by"] for row in rows] == [("student", "teacher")[one] for one in by_teacher.tolist()]
    first = int(by_teacher.argmax())
    assert [runtime.labels[1]] == expected[first] and float(rows[first]["probability"]) == pytest.approx(0.2, abs=1e-4)
    assert float(rows[first]["set_probability"]) == pytest.approx(0.2 * 0.3 * 0.2, abs=1e-4)
    assert f"labelled by the teacher: {by_teacher.sum()} of 60 rows" in capsys.readouterr().err


def test_a_label_of_rejected_texts_with_the_separator(several_bundle: Path, tmp_path: Path) -> None:
    flags = ["--reject_below", 1, "--reject_label", "a|b"]
    assert run(several_bundle, write(tmp_path / "in.csv"), tmp_path / "out.csv", *flags) == 0
    assert {row["predicted"] for row in read(tmp_path / "out.csv")} == {'["a|b"]'}
