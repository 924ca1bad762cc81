"""``--mode compare`` with several tasks, end to end with tiny real models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import output_of
from test_task_runs import flags, folder, rows_of, run

from distill import load_student
from distill.cli import main
from distill.reporting.comparison import ComparisonRow, read_record

__all__ = ["flags", "folder", "run"]  # fixtures
QUICK = ["--mode", "compare", "--student_epochs", "8", "--seeds", "2", "--objectives", "logits,soft,hint"]


@pytest.fixture(scope="module")
def arguments(flags: list[str], run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    teachers = [f"--teacher={task}={run}/tasks/{task}/teacher" for task in ("topic", "mood")]
    teachers.append(f"--teacher=topic={run}/tasks/topic/student")
    return [*flags, *QUICK, *teachers, "--run", str(tmp_path_factory.mktemp("runs") / "compared")]


@pytest.fixture(scope="module")
def compared(arguments: list[str]) -> Path:
    assert main(arguments) == 0
    return Path(arguments[-1])


def rows(compared: Path, task: str) -> dict[str, ComparisonRow]:
    record = read_record(compared / "tasks" / task / "compare" / "compare.json")
    return {row.name: row for row in record.rows}


def test_every_task_has_the_table_of_a_single_one(compared: Path) -> None:
    students = [f"bilstm, {name}" for name in ("alone", "logits", "soft", "logits, 2 teachers")]
    topic, mood = rows(compared, "topic"), rows(compared, "mood")
    assert list(topic) == ["teacher", "teachers, each", "teachers together", "LinearSVC", *students]  # and no cascade
    assert list(mood) == ["teacher", "LinearSVC", *students]
    for found in (topic, mood):
        row = found["bilstm, logits"]
        assert row.seeds == 2 and row.against == "bilstm, alone" and row.transfer == "train"
        assert row.gain == pytest.approx(row.main - found["bilstm, alone"].main)
        assert row.gain_low <= row.gain <= row.gain_high and 0 < row.p_value <= 1
        assert row.accuracy > 0.6 and row.main != row.seeds
    # a student reads the texts of both tasks, a teacher those of its own
    assert topic["bilstm, alone"].train_texts == mood["bilstm, soft"].train_texts > topic["teacher"].train_texts
    assert topic["bilstm, logits, 2 teachers"].teachers == 2 and mood["bilstm, logits, 2 teachers"].teachers == 1


def test_one_student_has_the_heads_of_both(compared: Path) -> None:
    texts = [text for text, _, _ in rows_of(90, 120)]
    row = Path("compare") / "bilstm_logits" / "seed.43"
    whole = load_student(compared / row)
    assert [task.name for task in whole.tasks] == ["topic", "mood"]
    for task in ("topic", "mood"):
        assert load_student(compared / "tasks" / task / row).predict(texts) == whole.predict(texts)[task]


def test_the_overview_has_a_column_per_task(compared: Path) -> None:
    table = (compared / "compare" / "compare.md").read_text("utf-8")
    assert "|  | topic, accuracy | mood, accuracy | mean |" in table
    topic, mood = (rows(compared, task)["bilstm, soft"] for task in ("topic", "mood"))
    cells = [f"{row.accuracy:.4f} ±{row.accuracy_sd:.4f}" for row in (topic, mood)]
    assert f"| bilstm, soft | {cells[0]} | {cells[1]} | {(topic.accuracy + mood.accuracy) / 2:.4f} |" in table
    assert "| teachers, each |" in table and "(../tasks/mood/compare/compare.html)" in table
    tasks = json.loads((compared / "compare" / "compare.json").read_text("utf-8"))["tasks"]
    assert list(tasks) == ["topic", "mood"]


def test_finished_students_are_kept(compared: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in compared.rglob("*.safetensors")}
    said = output_of(capsys, arguments)
    assert "left out: hint, because a hint imitates the vectors of one teacher" in said
    assert before == {path: path.stat().st_mtime_ns for path in compared.rglob("*.safetensors")}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--objectives", "hint"], "--objectives hint: a hint imitates the vectors of one teacher"),
        (["--students", "average,textgcn"], "--students textgcn: this student reads one graph"),
        (["--leave_out", "体育"], "--leave_out 体育: a class that students do not see is for one task"),
        (["--sampling", "stratified"], "--sampling stratified: texts are drawn by task"),
        (["--task_weights", "1,2,3"], "2 positive numbers are needed, one for each task"),
    ],
)
def test_what_is_for_one_task_is_refused_before_anything_is_trained(
    more: list[str], message: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*flags, "--mode", "compare", "--run", str(tmp_path), *more]
    assert message in output_of(capsys, arguments, code=2)
    assert not list(tmp_path.rglob("*.safetensors"))
