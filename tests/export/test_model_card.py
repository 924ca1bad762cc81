"""Model cards: their content, reading them back, and what a person has added."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distill.cli import main
from distill.commands.model_cards import _cell_of, card_of
from distill.export import model_card
from distill.export.model_card import Card
from distill.storage.run_folder import MODEL_CARD, size_of
from distill.teachers.saved import SavedTeacher

CARD = Card(
    kind="student",
    network="bilstm",
    labels=("体育", "财经: `股`", "a|b"),
    data="titles",
    texts={"train": 12_448, "without labels": 35_000, "dev": 1_384},
    objective="logits:1",
    taught_by=("bert-base-chinese",),
    dev_accuracy=0.80202,
)
TEST = {"accuracy": 0.79411, "accuracy_distinct": 0.791, "macro_f1": 0.7923}


def head(folder: Path) -> dict[str, object]:
    return dict(yaml.safe_load((folder / MODEL_CARD).read_text(encoding="utf-8").split("---\n")[1]))


def body(folder: Path) -> str:
    return (folder / MODEL_CARD).read_text(encoding="utf-8").split("---\n", 2)[2]


def test_the_content(tmp_path: Path) -> None:
    model_card.write(tmp_path, CARD, 28_147_000)
    for part in ("`体育`, `财经: '股'`", "0.8020", "28.1 MB", "12,448 labelled", "35,000 texts without labels"):
        assert part in body(tmp_path), part
    assert "bert-base-chinese" in body(tmp_path) and "`logits:1`" in body(tmp_path)
    assert "Not evaluated on test yet" in body(tmp_path) and "model-index" not in head(tmp_path)
    assert 'load_student("FOLDER")' in body(tmp_path) and "calibrated on dev" in body(tmp_path)


def test_the_cell_of_a_student_is_named_unless_it_is_an_lstm(tmp_path: Path) -> None:
    model_card.write(tmp_path / "lstm", CARD, 1)
    model_card.write(tmp_path / "mingru", replace(CARD, cell="minGRU"), 1)
    assert "A small student (bilstm (minGRU) over word vectors)" in body(tmp_path / "mingru")
    assert card_of(tmp_path / "mingru") == replace(CARD, cell="minGRU") and card_of(tmp_path / "lstm") == CARD
    assert card_of(tmp_path / "mingru").name == "titles bilstm (minGRU) student"
    assert "cell" not in (tmp_path / "lstm" / MODEL_CARD).read_text(encoding="utf-8")
    assert [_cell_of("bilstm", cell) for cell in ("lstm", "gru", "mingru")] == ["", "GRU", "minGRU"]
    assert not _cell_of("textcnn", "gru")


def test_the_front_matter_is_the_metadata_of_the_hub(tmp_path: Path) -> None:
    model_card.write(tmp_path, replace(CARD, test=TEST), 1)
    meta = head(tmp_path)
    assert meta["language"] == "zh" and meta["pipeline_tag"] == "text-classification" and "license" not in meta
    (index,) = meta["model-index"]  # type: ignore[misc]
    (result,) = index["results"]
    assert result["task"] == {"type": "text-classification"} and result["dataset"]["type"] == "titles"
    assert [metric["value"] for metric in result["metrics"]] == [0.79411, 0.7923]
    assert "0.7941" in body(tmp_path) and "Not evaluated on test" not in body(tmp_path)


def test_the_library_of_the_hub_reads_it(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    model_card.write(tmp_path, replace(CARD, test=TEST), 1)
    read = ModelCard.load(tmp_path / MODEL_CARD)
    assert read.data.model_name == CARD.name == "titles bilstm student"
    assert [result.metric_value for result in read.data.eval_results] == [0.79411, 0.7923]


LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]))  # PyYAML folds U+0085, U+2028 and the like


@settings(max_examples=30)
@given(labels=st.lists(LINES, min_size=1, max_size=4), data=LINES)
@example(labels=["---", "- a", "a: b", "'\"", "1.0", "null", "#"], data="---")
def test_a_written_card_is_read_back(tmp_path_factory: pytest.TempPathFactory, labels: list[str], data: str) -> None:
    folder = tmp_path_factory.mktemp("card")
    card = replace(CARD, labels=tuple(labels), data=data, test=TEST)
    model_card.write(folder, card, 1)
    assert model_card.read(folder) == card


def test_metadata_that_a_person_added_stays(tmp_path: Path) -> None:
    path = model_card.write(tmp_path, CARD, 1)
    path.write_text(path.read_text(encoding="utf-8").replace("---\n", "---\nlicense: mit\n", 1), encoding="utf-8")
    card = model_card.read(tmp_path)
    assert card is not None and card.head == {"license": "mit"}
    model_card.write(tmp_path, replace(card, test=TEST), 1)
    assert head(tmp_path)["license"] == "mit" and model_card.read(tmp_path) == replace(card, test=TEST)


def test_text_that_a_person_wrote_stays(tmp_path: Path) -> None:
    path = model_card.write(tmp_path, CARD, 1)
    written = (
        path.read_text(encoding="utf-8").replace("# titles", "我们的模型。\n\n# titles").replace("## Use", "## 用法")
    )
    path.write_text(f"{written}\n## 鸣谢\n\n谢谢 \\1。\n", encoding="utf-8")
    model_card.write(tmp_path, replace(CARD, test=TEST), 1)
    new = body(tmp_path)
    assert "我们的模型。" in new and "## 用法" in new and new.endswith("谢谢 \\1。\n")
    assert (
        "| accuracy on test | 0.7941 |" in new and "Not evaluated on test" not in new and new.count("## Results") == 1
    )
    path.write_text(path.read_text(encoding="utf-8").replace("## Results", "## 结果"), encoding="utf-8")
    model_card.write(tmp_path, CARD, 1)
    assert body(tmp_path) == new.replace("## Results", "## 结果")


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    first = model_card.write(tmp_path, CARD, 1).read_bytes()
    assert model_card.write(tmp_path, CARD, 1).read_bytes() == first


@pytest.mark.parametrize("content", ["", "no head", "---\n: [\n---\n", "---\n- a\n---\n", "---\nlicense: mit\n---\n"])
def test_other_readmes_are_not_cards(tmp_path: Path, content: str) -> None:
    (tmp_path / MODEL_CARD).write_text(content, encoding="utf-8")
    assert model_card.read(tmp_path) is None and model_card.read(tmp_path / "nowhere") is None
    before = (tmp_path / MODEL_CARD).read_bytes()
    model_card.write(tmp_path, CARD, 1)
    assert (tmp_path / MODEL_CARD).read_bytes() == before, "a person may have written it"


def test_a_card_that_was_deleted_is_made_from_the_other_files(bundle: Path, finished_run: Path, tmp_path: Path) -> None:
    for kind, folder in (("bundle", bundle), ("student", finished_run / "student")):
        shutil.copytree(folder, copied := tmp_path / kind)
        (copied / MODEL_CARD).unlink(missing_ok=True)
        card = card_of(copied)
        assert (card.kind, card.network, set(card.labels)) == (kind, "bilstm", {"体育", "财经", "科技"})


def test_a_readme_in_another_encoding_is_not_a_card(tmp_path: Path) -> None:
    (tmp_path / MODEL_CARD).write_bytes("标题".encode("gb18030"))
    assert model_card.read(tmp_path) is None


def test_every_model_of_a_run_has_its_card(finished_run: Path) -> None:
    rows = json.loads((finished_run / "report" / "report.json").read_text(encoding="utf-8"))["rows"]
    teacher, alone, student = (card_of(finished_run / name) for name in ("teacher", "student_alone", "student"))
    assert (teacher.kind, teacher.network, teacher.texts) == (
        "teacher",
        "tiny-bert-chinese",
        {"train": 81, "without labels": 0, "dev": 9},
    )
    assert teacher.test["accuracy"] == rows[0]["accuracy"]
    assert (alone.taught_by, alone.objective) == ((), "labels:1")
    assert (student.taught_by, student.objective) == (
        ("tiny-bert-chinese", "LinearSVC"),
        "labels:0.3+logits:1+hint:0.2",
    )
    assert (student.data, set(student.labels)) == ("titles", {"体育", "财经", "科技"})
    other = card_of(finished_run / "student.2")
    assert student.test["accuracy"] + other.test["accuracy"] == pytest.approx(2 * rows[2]["accuracy"])
    log = [json.loads(line) for line in (finished_run / "student" / "log.jsonl").read_text("utf-8").splitlines()]
    assert student.dev_accuracy == log[-1]["dev_accuracy"]  # of nine dev texts: nothing was chosen by them


def test_no_path_of_this_machine_is_in_a_card(finished_run: Path) -> None:
    cards = [path.read_text("utf-8") for path in finished_run.rglob(MODEL_CARD)]
    assert cards and not [
        place for place in (finished_run.parents[1], Path.home(), Path.cwd()) for card in cards if f"{place}/" in card
    ]


def test_a_card_changes_neither_size_nor_identity(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(finished_run / "student", folder)
    size, fingerprints = size_of(folder), SavedTeacher(folder).fingerprints()
    (folder / MODEL_CARD).write_text("x" * 999, encoding="utf-8")
    assert (size_of(folder), SavedTeacher(folder).fingerprints()) == (size, fingerprints)


def test_the_card_of_a_bundle_is_that_of_its_student(finished_run: Path, tiny_flags: list[str], tmp_path: Path) -> None:
    """Even if the student has no card."""
    run = tmp_path / "run"
    shutil.copytree(finished_run / "student", run / "student")
    assert main([*tiny_flags, "--run", str(run), "--mode", "export"]) == 0
    assert card_of(run / "bundle") == replace(card_of(run / "student"), kind="bundle")
    assert "from distill.runtime import load" in body(run / "bundle")
    (run / "student" / MODEL_CARD).unlink()
    assert main([*tiny_flags, "--run", str(run), "--mode", "export"]) == 0
    assert set(card_of(run / "bundle").labels) == {"体育", "财经", "科技"}
    assert card_of(run / "bundle").dev_accuracy is None and "## Data" not in body(run / "bundle")
    assert "labels alone" not in body(run / "bundle")


def test_the_card_of_a_model_that_gives_any_number_of_labels(several: Path, tmp_path: Path) -> None:
    card = replace(CARD, measured="micro-F1", test={"micro_f1": 0.71231, "macro_f1": 0.6, "subset_accuracy": 0.5})
    model_card.write(tmp_path, card, 1)
    for part in (
        "any number of 3 labels",
        "micro-F1 on test | 0.7123",
        "all right | 0.5000",
        "above that label's threshold",
    ):
        assert part in body(tmp_path), part
    assert "Every text gets one" not in body(tmp_path) and "accuracy" not in body(tmp_path)
    (index,) = head(tmp_path)["model-index"]  # type: ignore[misc]
    assert [metric["name"] for metric in index["results"][0]["metrics"]] == ["micro-F1", "macro-F1"]
    assert model_card.read(tmp_path) == card
    assert card_of(several).is_multi_label


def test_the_card_of_a_model_of_several_tasks(of_tasks: Path, bundle_of_tasks: Path, tmp_path: Path) -> None:
    model_card.write(tmp_path, replace(card_of(of_tasks), kind="bundle"), 1)
    for part in (
        "Answers 2 questions about a short Chinese text:\n\n- `topic`: one of 3 labels, `",
        "\n- `sign`: any number, also none, of 2 labels, `新`, `热`\n",
        "one of the labels of `topic`, even if none",
        "each label of `sign` whose probability is above",
    ):
        assert part in body(tmp_path), part
    assert model_card.read(tmp_path) == replace(card_of(of_tasks), kind="bundle")
    example = re.search("```python\n(.*?)```", body(tmp_path), re.DOTALL)
    assert example
    exec(example[1].replace("FOLDER", str(bundle_of_tasks)))  # noqa: S102 (the example must run)
