"""``--mode compare`` with several tasks, end to end with tiny real models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import on_data, output_of
from test_task_runs import flags, folder, rows_of, run

from distill import load_student
from distill.cli import main
from distill.commands.tasks import TASK_MODES
from distill.config import MODES
from distill.export import model_card
from distill.reporting.comparison_record import ComparisonRow, MultiLabelRow, read_record

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


def test_every_mode_that_takes_a_run_is_for_several_tasks_too() -> None:
    assert {name for name, mode in MODES.items() if mode.takes_run} == TASK_MODES.keys()


def test_every_task_has_the_table_of_a_single_one(compared: Path) -> None:
    students = [f"bilstm, {name}" for name in ("alone", "logits", "soft", "logits, 2 teachers")]
    topic, mood = rows(compared, "topic"), rows(compared, "mood")
    *models, cascade = topic
    assert models == ["teacher", "teachers, each", "teachers together", "LinearSVC", *students]
    assert cascade in {"cascade: bilstm, logits", "cascade: bilstm, soft"}  # one teacher has taught them
    assert list(mood)[:-1] == ["teacher", "LinearSVC", *students]
    for found in (topic, mood):
        row = found["bilstm, logits"]
        assert row.seeds == 2 and row.against == "bilstm, alone" and row.transfer == "train"
        assert row.gain == pytest.approx(row.main - found["bilstm, alone"].main)
        assert row.gain_low <= row.gain <= row.gain_high and 0 < row.p_value <= 1
        assert row.accuracy > 0.6
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
        (["--vectors", "nowhere.vec"], "nowhere.vec: no such file"),
        (["--cell", "mingru", "--student_input", "sentence"], "mingru is the cell of a sequence"),
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


def test_a_search_is_by_the_mean_of_the_tasks(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install -r requirements-dev.txt")
    tune = [*arguments[:-1], str(tmp_path), "--mode", "tune", "--seeds", "1", "--trials"]
    assert "best dev mean score of the tasks" in output_of(capsys, [*tune, "2"])
    assert "2 of 2 trials are done already" in output_of(capsys, [*tune, "2"])
    result = json.loads((tmp_path / "tune" / "tune.json").read_text("utf-8"))
    assert result["dev_accuracy"] == max(trial["dev_accuracy"] for trial in result["trials"]) > 0.3
    log = (tmp_path / "tune" / "student.1" / "log.jsonl").read_text("utf-8").splitlines()
    dev = [json.loads(line)["dev_accuracy"] for line in log]
    assert result["trials"][-1]["dev_accuracy"] in dev
    assert [task.name for task in load_student(tmp_path / "tune" / "student.1").tasks] == ["topic", "mood"]


@pytest.mark.slow
def test_label_sets_and_paths(tiny_flags: list[str], tmp_path: Path) -> None:
    """Of the first task the levels are compared too, and the second one is compared by its target metric."""
    (data := tmp_path / "data").mkdir()
    for name, start, stop in (("train", 0, 90), ("test", 90, 120)):
        lines = [
            {
                "text": text,
                "topic": f"{'经济' if topic == '财经' else '生活'}##{topic}",
                "mood": [mood] * bool(mood) + ["新"] * any(one in text for one in "么新"),
            }
            for text, topic, mood in rows_of(start, stop)
            if topic
        ]
        content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        (data / f"{name}.jsonl").write_text(content, encoding="utf-8")
    run = tmp_path / "run"
    arguments = [*on_data(tiny_flags, data), "--label_column", "topic,mood", "--run", str(run)]
    more = ["--objectives", "soft", "--students", "average", "--target_metric", "macro_f1"]
    assert main([*arguments, "--mode", "compare", *more]) == 0
    topic, mood = (rows(run, task) for task in ("topic", "mood"))
    assert all(0.4 < row.accuracy <= row.level_scores["accuracy_level_1"] for row in topic.values())
    row = mood["average, soft"]
    assert isinstance(row, MultiLabelRow) and row.measured == "macro-F1" and row.main == row.macro_f1
    assert row.gain == pytest.approx(row.main - mood["average, alone"].main)
    table = (run / "compare" / "compare.md").read_text("utf-8")
    assert "|  | topic, accuracy | mood, macro-F1 | mean |" in table and table.count("| LinearSVC |") == 1


def test_the_card_of_a_head_names_its_network(flags: list[str], tmp_path: Path) -> None:
    names = ["--students", "textcnn", "--objectives", "logits", "--student_epochs", "2", "--teacher_epochs", "1"]
    assert main([*flags, "--mode", "compare", *names, "--run", str(tmp_path)]) == 0
    for place in (tmp_path, tmp_path / "tasks" / "mood"):
        card = model_card.read(place / "compare" / "textcnn_logits" / "seed.42")
        assert card is not None and card.network == "textcnn"
