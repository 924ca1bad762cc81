"""A run whose texts have any number of labels, from the data to the report, with tiny real models."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarking import quick_benchmark
from conftest import SUBJECTS, on_data, output_of, titles

from distill import load_student
from distill.cli import main
from distill.commands import for_labelling
from distill.commands.experiment import Run
from distill.commands.label_sets import rarest_label_weights, right_texts, start_at_shares
from distill.commands.teachers import teachers_of
from distill.config.argparse import parser, settings_from
from distill.errors import UserError
from distill.models.text_classifier import load_teacher
from distill.reporting.comparison_record import read_record

__all__ = ["quick_benchmark"]  # a fixture


def rows_of(start: int, stop: int) -> list[dict[str, object]]:
    """Titles of one class, of two classes joined into one text, and texts without any label."""
    pairs = titles(start, stop)
    rows = [{"text": text, "label": [label]} for text, label in pairs]
    for (text, label), (other, second) in itertools.pairwise(pairs):
        if label != second:
            rows.append({"text": text + other, "label": [label, second]})
    return [*rows, *({"text": f"今天天气第{n}天", "label": []} for n in range(start, stop, 10))]  # type: ignore[list-item]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sets"
    folder.mkdir()
    for name, start, stop in (("train", 0, 90), ("test", 90, 120)):
        lines = [json.dumps(row, ensure_ascii=False) for row in rows_of(start, stop)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def flags(folder: Path, tiny_flags: list[str]) -> list[str]:
    return on_data(tiny_flags, folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, flags: list[str]) -> Path:
    root = tmp_path_factory.mktemp("runs") / "sets"
    assert main([*flags, "--run", str(root)]) == 0
    return root


def test_the_report_measures_label_sets(run: Path) -> None:
    report = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["measured"] == "micro-F1"
    assert [row["name"] for row in report["rows"]] == ["teacher", "student_alone", "student"]
    for row in report["rows"]:
        assert row["micro_f1"] > 0.6 and 0 <= row["hamming_loss"] < 0.3, row
    markdown = (run / "report" / "report.md").read_text(encoding="utf-8")
    assert "several labels per text" in markdown and "micro-F1" in markdown


def test_the_report_chooses_thresholds_for_whole_sets(run: Path) -> None:
    report = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    unsure, rows = report["unsure"], {row["name"]: row for row in report["rows"]}
    assert unsure["of_label_sets"] and unsure["model"] == "student"
    assert unsure["every_text"]["test_accuracy"] == pytest.approx(rows["student"]["subset_accuracy"])
    student, teacher = unsure["cascade"][0], unsure["cascade"][-1]
    assert student["accuracy"] == pytest.approx(rows["student"]["subset_accuracy"])
    assert teacher["accuracy"] == pytest.approx(rows["teacher"]["subset_accuracy"])
    for name in ("report.md", "report.html"):
        content = (run / "report" / name).read_text(encoding="utf-8")
        assert "dev: subset accuracy" in content and "as if its labels were independent" in content


def test_a_cascade_gives_the_sets_of_the_runs_teacher(run: Path, tmp_path: Path) -> None:
    texts = [str(row["text"]) for row in rows_of(90, 100)]
    (tmp_path / "in.txt").write_text("\n".join(texts), encoding="utf-8")
    paths = ["--run", run, "--input", tmp_path / "in.txt", "--output", tmp_path / "out.txt"]
    assert main(["--mode", "predict", "--cascade", "--cascade_below", "1", *map(str, paths)]) == 0
    rows = [line.split("\t") for line in (tmp_path / "out.txt").read_text("utf-8").splitlines()]
    assert [row[1] for row in rows] == ["|".join(labels) for labels in load_teacher(run / "teacher").predict(texts)]
    assert {row[-1] for row in rows} == {"teacher"}


def test_models_give_sets_of_labels(run: Path) -> None:
    for model in (load_teacher(run / "teacher"), load_student(run / "student")):
        assert len(model.thresholds) == 3 and all(0 <= threshold <= 1 for threshold in model.thresholds)
        texts = ["球队今天公布新消息股票为什么这么火", "手机到底怎么样"]
        both, one = model.predict(texts)
        assert both == ["体育", "财经"] and one == ["科技"], (both, one)
        probabilities = model.predict_proba(texts)
        assert probabilities[0, [0, 2]].min() > 0.5 and (probabilities >= 0).all() and (probabilities <= 1).all()


def test_the_student_is_calibrated_in_its_classifier(run: Path) -> None:
    card = json.loads((run / "student" / "student.json").read_text(encoding="utf-8"))
    assert card["temperature"] == 1.0 and len(card["thresholds"]) == len(SUBJECTS)


def test_a_label_that_no_train_text_has_is_never_given(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, start, stop in (("train", 0, 90), ("test", 90, 120)):
        table = [
            f"{row['text']},{','.join('01'[label in str(row['label'])] for label in SUBJECTS)},0"
            for row in rows_of(start, stop)
        ]
        (tmp_path / f"{name}.csv").write_text("\n".join([f"text,{','.join(SUBJECTS)},汽车", *table]), encoding="utf-8")
    arguments = [*on_data(tiny_flags, tmp_path), "--label_column", f"{','.join(SUBJECTS)},汽车"]
    arguments += ["--run", str(tmp_path / "run"), "--mode", "train_student", "--a", "1", "--T", "0"]
    output = output_of(capsys, arguments)
    assert "no train row has the labels 汽车" in output and "no dev text has the labels 汽车" in output
    model = load_student(tmp_path / "run" / "student_alone")
    assert model.thresholds[model.labels.index("汽车")] == 1.0


def test_a_finished_run_is_kept_until_the_target_changes(
    run: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--mode", "train_student", *flags, "--run", str(run)]
    assert "student: kept" in output_of(capsys, arguments)
    said = output_of(capsys, [*arguments, "--target_metric", "macro_f1", "--teacher", str(run / "teacher")])
    assert "student: trained again, target metric changed" in said


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--mode", "compare", "--leave_out", "体育"], "--leave_out 体育: this is for data with one label per text"),
        (["--mode", "compare", "--students", "average,textgcn"], "--students textgcn: this is for data with one label"),
        (["--mode", "train_student", "--student", "textgcn"], "--student textgcn: this is for data with one label"),
    ],
)
def test_what_does_not_apply_says_so(
    run: Path, flags: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    assert what in output_of(capsys, [*arguments, *flags, "--run", str(run)], code=2)


@pytest.mark.usefixtures("quick_benchmark")
def test_a_benchmark_measures_micro_f1(run: Path, flags: list[str]) -> None:
    assert main([*flags, "--mode", "benchmark", "--run", str(run)]) == 0
    content = json.loads((run / "benchmark" / "benchmark.json").read_text("utf-8"))
    rows = {row["name"]: row for row in content["rows"] if row["threads"] == 1}
    report = {row["name"]: row for row in json.loads((run / "report" / "report.json").read_text("utf-8"))["rows"]}
    assert content["measured"] == "micro-F1"
    assert rows["teacher, fp32"]["accuracy"] == pytest.approx(report["teacher"]["micro_f1"])
    assert rows["student, PyTorch"]["accuracy"] == pytest.approx(report["student"]["micro_f1"])
    assert rows["student, bundle"]["labels_equal"] == 1 and 0 < rows["LinearSVC"]["accuracy"] <= 1
    page = (run / "benchmark" / "benchmark.md").read_text("utf-8")
    assert "| micro-F1 |" in page and "| accuracy |" not in page and "- **micro-F1**" in page
    assert any(note.startswith("Left out: fastText. It is trained here for one label") for note in content["notes"])


def test_a_teacher_of_the_other_kind_is_refused(
    run: Path, finished_run: Path, flags: list[str], tiny_flags: list[str], tmp_path: Path
) -> None:
    for own, teacher, what in (
        (flags, finished_run, "this teacher gives a text one label, and in this data a text has any number"),
        (tiny_flags, run, "this teacher gives a text any number of labels, and in this data a text has one"),
    ):
        arguments = [*own, "--mode", "train_student", "--run", str(tmp_path / "new")]
        settings = settings_from(vars(parser().parse_args([*arguments, "--teacher", str(teacher / "teacher")])))
        with pytest.raises(UserError, match=what):
            teachers_of(Run(settings))


@pytest.mark.parametrize("objective", ["soft", "dist+soft_reverse:0.1", "logits+hint:0.5+mutual"])
def test_every_objective_trains(run: Path, flags: list[str], tmp_path: Path, objective: str) -> None:
    quick = [
        "--student_epochs",
        "8",
        "--teacher",
        str(run / "teacher"),
        "--objective",
        objective,
        "--teacher_lr",
        "1e-3",
    ]
    assert main(["--mode", "train_student", *flags, *quick, "--run", str(tmp_path / "run")]) == 0
    model = load_student(tmp_path / "run" / "student")
    probabilities = model.predict_proba([text for text, _ in titles(0, 30)])
    gold = np.array([list(SUBJECTS).index(label) for _, label in titles(0, 30)])
    own = [list(model.labels).index(label) for label in SUBJECTS]
    assert (probabilities[:, own].argmax(1) == gold).mean() > 0.6


def test_the_texts_of_the_least_sure_labels_are_worth_labelling(run: Path, flags: list[str], tmp_path: Path) -> None:
    sure, unsure = "球队比赛冠军今天公布新消息", "手机球队股票"
    (tmp_path / "more.txt").write_text(f"{sure}\n{unsure}\n", encoding="utf-8")
    model = load_student(run / "student")
    distances = np.abs(model.predict_proba([sure, unsure]) - 0.5).min(1)
    arguments = ["--mode", "label", "--for_labelling", "2", "--unlabeled", str(tmp_path / "more.txt")]
    settings = settings_from(vars(parser().parse_args([*flags, *arguments, "--run", str(run)])))
    a_run = Run(settings)
    assert for_labelling._margins(a_run, a_run.unlabelled)[0] == pytest.approx(2 * distances, abs=1e-5)


def test_label_sets_that_the_teacher_contradicts(run: Path) -> None:
    assert (run / "report" / "label_noise.csv").read_text(encoding="utf-8-sig").startswith("split,text,label")


def test_the_report_calls_students_calibrated(run: Path) -> None:
    page = (run / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("calibrated for each label") == 2 and page.count("not calibrated") == 1


def test_right_texts_are_those_with_exactly_the_right_labels() -> None:
    logits, labels = torch.tensor([[-1.0, -3.0], [-3.0, -1.0], [-1.0, -1.0]]), torch.tensor([[1.0, 0], [0, 1], [1, 0]])
    assert right_texts(logits, labels, (0.2, 0.2)).tolist() == [True, True, False]
    assert right_texts(logits, torch.tensor([0, 1, 0])).tolist() == [True, True, True]


def test_objectives_are_compared_by_micro_f1(run: Path, flags: list[str], tmp_path: Path) -> None:
    teachers = [part for name in ("teacher", "student") for part in ("--teacher", str(run / name))]
    quick = ["--student_epochs", "8", "--seeds", "2", *teachers]
    arguments = ["--mode", "compare", *flags, *quick, "--objectives", "logits,soft", "--run", str(tmp_path / "run")]
    assert main(arguments) == 0
    path = tmp_path / "run" / "compare" / "compare.json"
    rows = {row.name: row for row in read_record(path).rows}
    alone, logits, soft, together = (f"bilstm, {name}" for name in ("alone", "logits", "soft", "logits, 2 teachers"))
    references = ["teacher", "teachers, each", "teachers together", "LinearSVC, one-vs-rest"]
    *models, cascade = rows
    assert models == [*references, alone, logits, soft, together]
    assert cascade in {f"cascade: {logits}", f"cascade: {soft}"}  # one teacher has taught them
    assert rows[cascade].against == cascade.removeprefix("cascade: ") and rows[cascade].main > 0.5
    assert "is not less accurate (in whole label sets) on dev" in path.with_suffix(".md").read_text("utf-8")
    report = {row["name"]: row for row in json.loads((run / "report" / "report.json").read_text("utf-8"))["rows"]}
    assert rows["teacher"].main == pytest.approx(report["teacher"]["micro_f1"], abs=1e-6)
    assert rows["teacher"].accuracy == pytest.approx(report["teacher"]["subset_accuracy"], abs=1e-6)
    each = (report["teacher"]["micro_f1"] + report["student"]["micro_f1"]) / 2
    assert rows["teachers, each"].main == pytest.approx(each, abs=1e-6)
    assert rows["teachers together"].main > 0.6 and rows["LinearSVC, one-vs-rest"].ece is None
    for name in (logits, soft, together):
        row = rows[name]
        assert row.main > 0.5 and row.seeds == 2 and row.against == alone and 0 < row.p_value <= 1
        assert row.gain == pytest.approx(row.main - rows[alone].main) and row.gain_low <= row.gain <= row.gain_high
        assert 0 <= row.ece < 0.5 and row.ece_calibrated is None


def test_a_text_is_drawn_as_often_as_its_rarest_label() -> None:
    unknown = [-100.0] * 3
    labels = torch.tensor([[1.0, 0, 0]] * 3 + [[1, 1, 0], [0, 0, 0], unknown, unknown])
    logits = torch.zeros(7, 3) - 1
    logits[5, 1] = 1
    assert rarest_label_weights(labels, logits).tolist() == [1 / 4] * 3 + [1 / 2, 1 / 2, 1 / 2, 1 / 2]
    assert rarest_label_weights(labels, None).tolist() == pytest.approx([1 / 4] * 3 + [1, 1 / 3, 1 / 3, 1 / 3])


def test_stratified_sampling_trains(run: Path, flags: list[str], tmp_path: Path) -> None:
    arguments = ["--mode", "train_student", *flags, "--teacher", str(run / "teacher"), "--run", str(tmp_path / "run")]
    assert main([*arguments, "--sampling", "stratified", "--student_epochs", "2"]) == 0


def test_a_new_classifier_begins_with_the_shares_of_the_labels() -> None:
    classifier = torch.nn.Linear(4, 2)
    labels = torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 0.0]] * 2 + [[-100.0, -100.0]] * 5)
    start_at_shares(classifier, labels)
    assert classifier(torch.zeros(1, 4)).sigmoid()[0].tolist() == pytest.approx([7 / 10, 1 / 10])
    before = classifier.bias.clone()
    start_at_shares(classifier, torch.tensor([0, 1]))
    assert torch.equal(classifier.bias, before)
