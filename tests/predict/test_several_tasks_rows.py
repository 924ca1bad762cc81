"""Rows of a student of several tasks, in every format."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from test_several_labels_rows import SUFFIXES, TEXTS, certainty_of, read, run, write

from distill.data.formats.labelling import OutputSpec
from distill.errors import UserError
from distill.runtime import Runtime, Task

COLUMNS = ("topic_predicted", "topic_probability", "sign_predicted", "sign_probability")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_task_has_its_columns(
    suffix: str, bundle_of_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = Runtime(bundle_of_tasks)
    output = tmp_path / f"out.{suffix}".replace("xlsx", "csv")
    assert run(bundle_of_tasks, write(tmp_path / f"in.{suffix}"), output) == 0
    assert "sign: a text may have any number of labels; in tables and plain text they are joined by |" in (
        capsys.readouterr().err
    )
    rows, expected, probabilities = read(output, COLUMNS), runtime.predict(TEXTS), runtime.predict_proba(TEXTS)
    assert [name for name in rows[0] if name in COLUMNS] == list(COLUMNS)
    assert [row["text"] for row in rows] == TEXTS and [row["topic_predicted"] for row in rows] == expected["topic"]
    is_list = suffix in ("jsonl", "parquet")
    assert [row["sign_predicted"] for row in rows] == [
        found if is_list else "|".join(found) for found in expected["sign"]
    ]
    highest = probabilities["topic"].max(axis=1)
    np.testing.assert_allclose([float(row["topic_probability"]) for row in rows], highest, atol=1e-4)
    least = certainty_of(probabilities["sign"], runtime.tasks[1].labels, expected["sign"])
    np.testing.assert_allclose([float(row["sign_probability"]) for row in rows], least, atol=1e-4)


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_all_that_may_be_added(suffix: str, bundle_of_tasks: Path, tmp_path: Path) -> None:
    runtime, output = Runtime(bundle_of_tasks), tmp_path / f"out.{suffix}"
    below = float(np.median(runtime.predict_proba(TEXTS)["topic"].max(axis=1)))
    flags = ("--probabilities", "--top_k", "3", "--reject_below", below, "--reject_label", "其他")
    assert run(bundle_of_tasks, write(tmp_path / f"in.{suffix}"), output, *flags) == 0
    rows, top, probabilities = read(output), runtime.top_k(TEXTS, 3), runtime.predict_proba(TEXTS)
    assert [row["topic_predicted"] for row in rows] == runtime.predict(TEXTS, reject_below=below, reject_label="其他")[
        "topic"
    ]
    assert "其他" in {row["topic_predicted"] for row in rows} and len({row["topic_predicted"] for row in rows}) > 1
    for task in runtime.tasks:
        if suffix == "jsonl":
            of_labels = [row[f"{task.name}_probabilities"] for row in rows]
            of_top = [[one["label"] for one in row[f"{task.name}_top_k"]] for row in rows]
        else:
            of_labels = [{name: row[f"{task.name}_probability_{name}"] for name in task.labels} for row in rows]
            ranks = range(1, len(task.labels) + 1)
            of_top = [[row[f"{task.name}_top_{rank}"] for rank in ranks] for row in rows]
            assert f"{task.name}_top_{len(task.labels) + 1}" not in rows[0]
        assert of_top == [[name for name, _ in row] for row in top[task.name]]
        found = [[float(row[name]) for name in task.labels] for row in of_labels]
        np.testing.assert_allclose(found, probabilities[task.name], atol=1e-4)


def test_parquet_has_lists_for_a_task_of_any_number_of_labels(bundle_of_tasks: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    assert run(bundle_of_tasks, write(tmp_path / "in.parquet", ["", *TEXTS[:3]]), tmp_path / "out.parquet") == 0
    schema = parquet.read_schema(tmp_path / "out.parquet")
    assert [str(schema.field(name).type) for name in COLUMNS] == ["string", "float", "list<element: string>", "float"]
    assert set(read(tmp_path / "out.parquet")[0].values()) == {"", None}


def test_a_rejected_row_counts_once(bundle_of_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle_of_tasks, write(tmp_path / "in.csv"), tmp_path / "out.csv", "--reject_below", "1") == 0
    assert f"rejected: {len(TEXTS)} of {len(TEXTS)} rows" in capsys.readouterr().err
    assert {row["topic_predicted"] for row in read(tmp_path / "out.csv")} == {""}


def test_a_cascade_is_refused(bundle_of_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(bundle_of_tasks, write(tmp_path / "in.csv"), tmp_path / "out.csv", "--cascade") == 2
    assert "this student has several tasks, each with a teacher of its own, so --cascade does not apply -> leave" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "out.csv").exists()


def test_a_column_with_the_name_of_a_task(
    bundle_of_tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("text,topic_predicted\n球队,体育\n", "utf-8")
    assert run(bundle_of_tasks, tmp_path / "in.csv", tmp_path / "out.csv") == 2
    assert "there is already a column topic_predicted, and the output needs this name" in capsys.readouterr().err


def test_names_that_a_pattern_or_a_table_could_misread() -> None:
    spec = OutputSpec((), True, tasks=(Task('50%"s', ("a", "b")), Task("=x", ("c,", "d"), (0.5, 0.5), first=2)))
    assert spec.columns[:2] == ('50%"s_predicted', '50%"s_probability') and spec.columns[-1] == "=x_probability_d"
    with pytest.raises(UserError, match="two columns a_probability_predicted, one for each of two tasks"):
        OutputSpec((), True, tasks=(Task("a", ("predicted", "c")), Task("a_probability", ("b", "c"), first=2)))


def test_odd_names_of_tasks_in_json(bundle_of_tasks: Path, tmp_path: Path) -> None:
    from distill.predict.in_memory import label_stream

    runtime = Runtime(bundle_of_tasks)
    (topic, sign), expected = runtime.tasks, runtime.predict(TEXTS)["topic"]
    runtime.tasks = (Task('50%"s', topic.labels), Task("=x", sign.labels, sign.thresholds, sign.first))
    spec = OutputSpec(runtime.labels, True, tasks=runtime.tasks, top_k=1)
    for suffix in ("jsonl", "csv"):
        output = tmp_path / f"out.{suffix}"
        with write(tmp_path / f"in.{suffix}").open("rb") as source, output.open("wb") as out:
            assert label_stream(runtime, source, out, f"in.{suffix}", spec).rows == len(TEXTS)
        assert [row['50%"s_predicted'] for row in read(output)] == expected
    assert math.isclose(sum(read(tmp_path / "out.jsonl")[0]['50%"s_probabilities'].values()), 1, abs_tol=1e-4)
    assert json.loads((tmp_path / "out.jsonl").read_text("utf-8").splitlines()[0])["=x_top_k"]
