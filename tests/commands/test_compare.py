"""``--mode compare`` and ``tune``, several teachers and transfer sets, end to end on tiny models."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import on_data, output_of, titles

from distill import load_student
from distill.cli import main
from distill.commands.compare import _entries
from distill.commands.experiment import Run
from distill.commands.student_spec import StudentSpec
from distill.config import ObjectiveSettings, StudentSettings
from distill.config.argparse import parser, settings_from
from distill.data import Example
from distill.errors import install_hint
from distill.storage.fingerprints import read_provenance

STUDENT = str(Path(__file__).parents[1] / "fixtures" / "student")
QUICK = ["--student_epochs", "3", "--student_hidden", "4", "--seeds", "2"]
KEYS = {"name", "objective", "student", "transfer", "teachers", "seeds", "accuracy", "accuracy_sd", "kept", "gain"}


@pytest.fixture(scope="session")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with forty new texts, one text of train and one of test."""
    path = tmp_path_factory.mktemp("unlabelled") / "texts.txt"
    texts = [f"{text}第{number}回" for number, (text, _) in enumerate(titles(0, 40))]
    path.write_text("\n".join([*texts, titles(0, 1)[0][0], titles(100, 101)[0][0]]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def compared(
    tmp_path_factory: pytest.TempPathFactory, tiny_flags: list[str], unlabelled: Path
) -> tuple[Path, list[str]]:
    """A run's folder after a comparison with two teachers, and its flags."""
    folder = tmp_path_factory.mktemp("runs") / "compared"
    flags = [*tiny_flags, *QUICK, "--run", str(folder), "--teacher_epochs", "2", "--teachers", "2", "--mode", "compare"]
    flags += ["--unlabeled", str(unlabelled), "--students", "bilstm,average", "--leave_out", "体育"]
    flags += ["--objectives", "logits,labels:.1+soft:.9"]
    assert main(flags) == 0
    return folder, flags


def rows_of(folder: Path) -> dict[str, dict[str, object]]:
    rows = json.loads((folder / "compare" / "compare.json").read_text(encoding="utf-8"))["rows"]
    return {row["name"]: row for row in rows}


def test_every_row_is_written_with_its_keys(compared: tuple[Path, list[str]]) -> None:
    rows = rows_of(compared[0])
    for row in rows.values():
        assert KEYS | {"p_value"} <= row.keys()
    average_rows = [name.partition(", ")[2] for name in rows if name.startswith("average")]
    assert average_rows == [
        "alone",
        "logits",
        "labels:.1+soft:.9",
        "logits, 2 teachers",
        "alone, as many steps",
        "logits, train + unlabelled",
        "logits, train + unlabelled, 2 teachers",
    ]
    assert [name for name in rows if not name.startswith(("average", "bilstm"))] == [
        "teacher",
        "teachers, each",
        "teachers together",
        "LinearSVC",
        next(name for name in rows if name.startswith("cascade: ")),
    ]
    assert rows["bilstm, logits"]["seeds"] == 2 and rows["teachers, each"]["seeds"] == 2
    assert rows["bilstm, alone"]["objective"] == "labels" and rows["bilstm, alone"]["gain"] is None
    assert rows["bilstm, logits, 2 teachers"]["teachers"] == 2


def test_the_cascade_of_a_student_and_its_teacher(compared: tuple[Path, list[str]]) -> None:
    rows = rows_of(compared[0])
    cascade = next(row for name, row in rows.items() if name.startswith("cascade: "))
    student, teacher = rows[str(cascade["against"])], rows["teacher"]
    assert cascade["name"] == f"cascade: {student['name']}" and student["teachers"] == 1
    assert (cascade["objective"], cascade["seeds"]) == ("cascade", 2)
    assert cascade["gain"] == pytest.approx(cascade["accuracy"] - student["accuracy"])  # type: ignore[operator]
    assert cascade["parameters"] == student["parameters"] + teacher["parameters"]  # type: ignore[operator]
    [remark] = json.loads((compared[0] / "compare" / "compare.json").read_text("utf-8"))["remarks"]
    share = float(remark.split(" % of the test texts")[0].split()[-1]) / 100
    expected = student["ms_per_text"] + share * teacher["ms_per_text"]  # type: ignore[operator]
    assert cascade["ms_per_text"] == pytest.approx(expected, rel=0.01)
    assert remark in (compared[0] / "compare" / "compare.md").read_text("utf-8")


@pytest.mark.slow
def test_objectives_of_every_kind(finished_run: Path, tiny_flags: list[str], tmp_path: Path) -> None:
    flags = [*tiny_flags, *QUICK, "--run", str(tmp_path), "--teacher", str(finished_run / "teacher")]
    assert main([*flags, "--mode", "compare", "--objectives", "hint_layers,mutual,dist"]) == 0
    rows = rows_of(tmp_path)
    assert {"bilstm, hint_layers", "bilstm, mutual", "bilstm, dist"} <= rows.keys()
    assert all(row["seeds"] == 2 for name, row in rows.items() if name.startswith("bilstm"))
    assert_different_students(tmp_path, ("hint_layers", "mutual", "dist"))


def test_a_student_is_compared_with_the_student_alone_of_as_many_steps(compared: tuple[Path, list[str]]) -> None:
    rows = rows_of(compared[0])
    larger = rows["bilstm, logits, train + unlabelled"]
    assert larger["against"] == "bilstm, alone, as many steps" and larger["train_texts"] == 121
    accuracy = [row["accuracy"] for row in (larger, rows["bilstm, alone, as many steps"])]
    assert larger["gain"] == pytest.approx(accuracy[0] - accuracy[1])  # type: ignore[operator]
    assert rows["bilstm, logits"]["against"] == "bilstm, alone"
    record = read_provenance(compared[0] / "compare" / "bilstm_alone_as_many_steps" / "seed.42")
    assert record is not None and record["epochs"] == 4 and record["teacher"] is None  # 8 steps for 6


def test_kept_is_the_share_of_the_teachers_accuracy(compared: tuple[Path, list[str]]) -> None:
    rows = rows_of(compared[0])
    for name, teacher in (("bilstm, logits", "teacher"), ("bilstm, logits, 2 teachers", "teachers, each")):
        accuracy = [rows[each]["accuracy"] for each in (name, teacher)]
        assert rows[name]["kept"] == pytest.approx(accuracy[0] / accuracy[1])  # type: ignore[operator]


def test_table_plot_and_the_class_left_out(compared: tuple[Path, list[str]]) -> None:
    folder = compared[0] / "compare"
    text = (folder / "compare.md").read_text(encoding="utf-8")
    assert "bilstm, logits, train + unlabelled" in text and "logits, with its bias set on dev" in text
    assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
    left_out = json.loads((folder / "compare.json").read_text(encoding="utf-8"))["left_out"]
    assert left_out[0]["name"] == "alone" and left_out[0]["recall"] == 0  # a class that it never saw is never predicted
    assert len(left_out) == 5 and all(0 <= row["recall"] <= 1 for row in left_out)
    assert json.loads((folder / "compare.json").read_text(encoding="utf-8"))["data"]["unlabelled_in_test"] == 1


def test_repeating_a_comparison_trains_nothing(
    compared: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, flags = compared
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    text = output_of(capsys, [*flags[:-2], "--objectives", "logits"])  # fewer rows, all of them trained before
    assert ": dev accuracy" not in text and "teacher logits: complete in the cache" in text
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_a_comparison_of_other_data_is_left_out_of_the_report(
    compared: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, flags = Path(shutil.copytree(compared[0], tmp_path / "run")), compared[1]
    test_flags = [*flags, "--run", str(run), "--mode", "test"]
    assert "other data" not in output_of(capsys, test_flags)
    assert 'id="comparison"' in (run / "report" / "report.html").read_text(encoding="utf-8")
    path = run / "compare" / "compare.json"
    content = path.read_text(encoding="utf-8")
    relabelled = json.dumps(json.loads(content) | {"fingerprint": "0"})
    for changed in (relabelled, content.replace('"test": 30', '"test": 31')):
        path.write_text(changed, encoding="utf-8")
        assert "left out of the report" in output_of(capsys, test_flags)
    assert "compare.json: left out of the report, it was made with other data" in output_of(capsys, test_flags)
    assert 'id="comparison"' not in (run / "report" / "report.html").read_text(encoding="utf-8")


def test_objectives_make_different_students(compared: tuple[Path, list[str]]) -> None:
    assert_different_students(compared[0], ("logits", "labels_.1+soft_.9", "logits_2_teachers"))


def assert_different_students(folder: Path, rows: Sequence[str]) -> None:
    texts = [text for text, _ in titles(90, 120)]
    logits = [load_student(folder / "compare" / f"bilstm_{row}" / "seed.42").logits(texts) for row in rows]
    assert len({tuple(each.flatten().tolist()) for each in logits}) == len(rows)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--students", "bilstm,gru"],
            "--students: unknown network gru; the networks are bilstm, textcnn, average, textgcn",
        ),
        (["--students", ","], "--students: no network is named"),
        (["--objectives", "logits,sotf"], "unknown term 'sotf'; the terms are labels"),
        (
            ["--objectives", "logits,labels:1"],
            "--objectives: labels:1 learns from the labels alone, which is compared anyway",
        ),
        (["--leave_out", "娱乐"], "--leave_out: '娱乐' is not a label of the data"),
        (["--unlabeled", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--mode", "all", "--unlabeled", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--mode", "all", "--vectors", "nowhere.vec"], "nowhere.vec: no such file"),
        (["--mode", "all", "--vectors", "teacher.vec"], "teacher.vec: no such file"),
        (["--mode", "all", "--cell", "mingru", "--student_input", "sentence"], "mingru is the cell of a sequence"),
        (["--mode", "all", "--push_to_hub", "name"], "'name' is not the name of a model on the Hub"),
        (["--teacher", STUDENT, "--teacher", f"{STUDENT}/../student"], "the same teacher is named twice"),
    ],
)
def test_errors_are_found_before_anything_is_trained(
    flags: list[str], message: str, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in output_of(capsys, [*tiny_flags, "--run", str(tmp_path), "--mode", "compare", *flags], code=2)
    assert not (tmp_path / "teacher").exists()


def test_labels_that_the_teacher_contradicts_are_listed(
    tiny_flags: list[str], title_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads((title_folder / "train.json").read_text(encoding="utf-8"))
    rows[0]["label"] = "财经"  # should be 体育
    data = tmp_path / "data"
    shutil.copytree(title_folder, data)
    (data / "train.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    teacher_flags = [*tiny_flags, "--run", str(tmp_path / "other"), "--teacher_epochs", "40", "--mode", "train_teacher"]
    output_of(capsys, teacher_flags)
    flags = [*on_data(tiny_flags, data), "--run", str(tmp_path / "run"), "--mode", "label"]
    text = output_of(capsys, [*flags, "--teacher", str(tmp_path / "other" / "teacher")])
    assert "trained on other data or another split; it may have seen texts of dev or test" in text
    with (tmp_path / "run" / "report" / "label_noise.csv").open(encoding="utf-8-sig", newline="") as file:
        contradicted = list(csv.DictReader(file))
    row = next(row for row in contradicted if row["text"] == rows[0]["text"])
    assert (row["label"], row["teacher_label"]) == ("财经", "体育") and float(row["teacher_probability"]) >= 0.8


def test_a_teacher_of_another_run_and_a_student_as_teacher(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Teachers of a GRU: the biLSTM of another run, and that together with the encoder of another run."""
    flags = [*tiny_flags, *QUICK, "--run", str(tmp_path), "--mode", "train_student", "--cell", "gru"]
    teacher, student = str(finished_run / "teacher"), str(finished_run / "student")
    output_of(capsys, [*flags, "--teacher", student, "--objective", "hint"])
    assert load_student(tmp_path / "student").model.config.cell == "gru"
    record = read_provenance(tmp_path / "student")
    assert record is not None and list(record["teacher"][0]) == [
        "student.json",
        "student.safetensors",
        "vocabulary.txt",
    ]
    text = output_of(capsys, [*flags, "--teacher", student, "--teacher", teacher])
    assert "trained again, objective changed, teacher changed" in text
    assert "distilled student" in output_of(
        capsys, [*flags[:-4], "--mode", "test", "--teacher", student, "--teacher", teacher]
    )
    rows = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["rows"]
    assert rows[0]["name"] == "teacher" and rows[0]["seeds"] == 2  # the teachers of --teacher are compared with
    assert rows[1]["kept"] == pytest.approx(rows[1]["accuracy"] / rows[0]["accuracy"])
    missing = output_of(capsys, [*flags, "--teacher", str(tmp_path / "nowhere")], code=2)
    assert "nowhere: no such file or folder -> check the path; a teacher is a folder that" in missing
    itself = output_of(capsys, [*flags, "--teacher", str(tmp_path / "student")], code=2)
    assert (
        "this student cannot be the teacher: the run would overwrite it -> choose another folder with --run" in itself
    )


def test_a_teacher_with_other_labels_is_refused(
    finished_run: Path, tiny_flags: list[str], title_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train.json", "test.json"):
        text = (title_folder / name).read_text(encoding="utf-8").replace("财经", "娱乐")
        (data / name).write_text(text, encoding="utf-8")
    flags = [*on_data(tiny_flags, data), "--run", str(tmp_path / "run"), "--mode", "train_student"]
    text = output_of(capsys, [*flags, "--teacher", str(finished_run / "teacher")], code=2)
    assert "this teacher has no label 娱乐, which the data has; its other labels: 财经 -> --teacher_labels" in text
    assert not (tmp_path / "run" / "student").exists()


def test_the_labels_of_a_teacher_may_be_in_another_order(
    finished_run: Path, tiny_flags: list[str], title_folder: Path, tmp_path: Path
) -> None:
    from distill.commands.experiment import Run
    from distill.config import DataSettings, RunSettings, Settings
    from distill.teachers.saved import SavedTeacher

    data = tmp_path / "data"
    shutil.copytree(title_folder, data)
    (data / "class.txt").write_text("科技\n体育\n财经\n", encoding="utf-8")
    logits = {}
    for name, folder in (("as trained", title_folder), ("reordered", data)):
        run = Run(Settings(RunSettings(run=str(tmp_path / name)), DataSettings(str(folder))))
        in_label_order = run.answering.mean([SavedTeacher(finished_run / "teacher")], run.data.test).logits
        logits[name] = in_label_order[:, [run.data.labels.index(label) for label in ("体育", "财经", "科技")]]
    assert logits["as trained"].equal(logits["reordered"])
    rows = []
    for folder in (title_folder, data):
        flags = [*on_data(tiny_flags, folder), *QUICK, "--run", str(tmp_path / "run"), "--objectives", "logits"]
        assert main([*flags, "--mode", "compare", "--teacher", str(finished_run / "teacher")]) == 0
        rows.append(rows_of(tmp_path / "run"))
    assert rows[0]["teacher"]["accuracy"] == rows[1]["teacher"]["accuracy"] > 0.5  # type: ignore[operator]


@pytest.mark.parametrize("student", ["textcnn", "average", "textgcn"])
def test_every_student_learns_the_toy_task(
    student: str, finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*tiny_flags, "--run", str(tmp_path), "--student", student, "--teacher", str(finished_run / "teacher")]
    flags += ["--student_epochs", "100"] if student == "textgcn" else []
    output_of(capsys, [*flags, "--mode", "train_student"])
    output_of(capsys, [*flags, "--mode", "train_student", "--a", "1", "--T", "0"])
    texts, labels = zip(*titles(90, 120), strict=True)  # test
    for name in ("student_alone", "student"):
        predicted = load_student(tmp_path / name).predict(texts)
        assert sum(map(str.__eq__, predicted, labels)) > 0.5 * len(labels)  # chance is a third


def test_textgcn_cannot_predict_texts_outside_its_graph(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path
) -> None:
    from distill.errors import UserError

    flags = [*tiny_flags, "--run", str(tmp_path), "--student", "textgcn", "--student_epochs", "2"]
    assert main([*flags, "--a", "1", "--T", "0", "--mode", "train_student"]) == 0
    student = load_student(tmp_path / "student_alone")
    assert len(student.predict([titles(0, 1)[0][0]])) == 1
    with pytest.raises(UserError, match="从未见过"):
        student.predict(["从未见过的文本"])


def test_a_graph_is_rebuilt_when_the_test_texts_change(
    tiny_flags: list[str], title_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(title_folder, data)
    flags = [*on_data(tiny_flags, data), "--run", str(tmp_path / "run"), "--student_epochs", "2"]
    flags += ["--student", "textgcn", "--a", "1", "--T", "0", "--mode"]
    output_of(capsys, [*flags, "train_student"])
    (data / "test.json").write_text('[{"text": "新的标题", "label": "体育"}]', encoding="utf-8")
    assert "trained again, graph changed" in output_of(capsys, [*flags, "train_student"])
    assert "student alone" in output_of(capsys, [*flags, "test"])


def test_noise_and_stratified_sampling_and_augmentation(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*tiny_flags, *QUICK, "--run", str(tmp_path), "--teacher", str(finished_run / "teacher"), "--augment", "2"]
    flags += ["--word_dropout", ".1", "--vector_noise", ".1", "--sampling", "stratified", "--mode", "train_student"]
    text = output_of(capsys, flags)
    copies = int(text.partition("augmented: ")[2].partition(" ")[0])
    assert 20 < copies <= 162 and f"vectors: {81 + copies} texts to label" in text
    assert "texts" in text and load_student(tmp_path / "student").labels == ("体育", "科技", "财经")


def test_stratified_sampling_without_a_teacher(tiny_flags: list[str], unlabelled: Path, tmp_path: Path) -> None:
    flags = [*tiny_flags, *QUICK, "--run", str(tmp_path), "--unlabeled", str(unlabelled), "--sampling", "stratified"]
    assert main([*flags, "--objective", "labels:1+mutual:1", "--mode", "train_student"]) == 0


def test_labelling_grows_with_the_transfer_set(
    finished_run: Path, tiny_flags: list[str], unlabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*tiny_flags, "--run", str(tmp_path), "--teacher", str(finished_run / "teacher"), "--mode", "label"]
    assert "81 texts to label, 0 in the cache" in output_of(capsys, flags)
    assert "40 texts to label, 81 in the cache" in output_of(capsys, [*flags, "--unlabeled", str(unlabelled)])


def test_the_budget_counts_steps() -> None:
    def epochs(batch_size: int, budget: int) -> int:
        settings = StudentSettings(epochs=8, batch_size=batch_size).with_defaults()
        return StudentSpec(settings, ObjectiveSettings(), budget=budget).epochs(100)

    assert epochs(10, 350) == 28 and epochs(10, 0) == 8
    assert epochs(1000, 350) == 8  # 100 and 350 texts are both one step
    distilled = StudentSpec(
        StudentSettings().with_defaults(), ObjectiveSettings(), general=(Example(0, "", 0),) * 40_000
    )
    alone = StudentSpec(StudentSettings().with_defaults(), ObjectiveSettings(), budget=50_000, general_budget=40_000)
    assert alone.epochs(10_000) * 157 == pytest.approx(distilled.epochs(50_000) * 782, rel=0.05)  # batches of 64


def test_a_student_with_general_texts_is_compared_with_one_of_as_many_steps(
    finished_run: Path, tiny_flags: list[str], unlabelled: Path
) -> None:
    def check(base: str, name: str, *more: str) -> None:
        flags = [*tiny_flags, "--run", str(finished_run), *more, "--general_words", "30", "--linear_weight", "0"]
        run = Run(settings_from(vars(parser().parse_args(flags))))
        entries = {entry.name: entry for entry in _entries(run, ["bilstm"], [run.settings.objective])}
        spec = entries[name].spec
        assert entries[name].against == base and len(spec.general) == 30
        assert entries[base].spec.budget == len(spec.texts(run))

    check("bilstm, alone, as many steps", "bilstm, logits")
    more = "bilstm, logits, train + unlabelled"
    check("bilstm, alone, as many steps as train + unlabelled", more, "--unlabeled", str(unlabelled))


def test_tune_continues_where_it_stopped(
    finished_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed: pip install -r requirements-dev.txt")
    teacher = ["--teacher", str(finished_run / "teacher")]
    flags = [*tiny_flags, *QUICK, "--run", str(tmp_path), *teacher, "--mode", "tune", "--trials"]
    assert "0 of 2 trials are done" in output_of(capsys, [*flags, "2"])
    assert "2 of 3 trials are done" in output_of(capsys, [*flags, "3"])
    result = json.loads((tmp_path / "tune" / "tune.json").read_text(encoding="utf-8"))
    assert len(result["trials"]) == 3 and result["dev_accuracy"] == max(
        trial["dev_accuracy"] for trial in result["trials"]
    )
    assert "--student_lr" in result["flags"]
    for other in (["--objective", "soft"], ["--student_hidden", "16"]):
        assert "0 of 1 trials are done" in output_of(capsys, [*flags, "1", *other])  # another study
    assert len({json.dumps(trial, sort_keys=True) for trial in result["trials"]}) == 3  # no trial is repeated


def test_without_optuna_the_error_says_what_to_install(
    tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    text = output_of(capsys, [*tiny_flags, "--run", str(tmp_path), "--mode", "tune"], code=2)
    assert install_hint("tune") in text
