"""Few labels: the teacher's word vectors, general texts, settings chosen from the data, and poor teachers."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import on_data
from safetensors.torch import load_file

from distill.cli import main, parser, settings_from
from distill.commands.benchmark import candidates
from distill.commands.experiment import Run
from distill.commands.student_spec import StudentSpec
from distill.commands.train_student import _StudentTrainer
from distill.config import RunSettings, Settings, StudentSettings, TeacherSettings, TransferSettings
from distill.data import Dataset, Example, example_id
from distill.data.demo import read_reviews, read_sentences
from distill.data.general import general_sentences, share_like
from distill.evaluation.metrics import is_below
from distill.export import model_card
from distill.export.bundle import export_bundle
from distill.models.text_classifier import load_student
from distill.runtime.arrays import Arrays, dequantise
from distill.runtime.bundle import read_bundle
from distill.storage.run_folder import MODEL_CARD
from distill.teachers.saved import SavedTeacher
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import Vocabulary
from distill.text.word_vectors import VECTOR_STD, reduce_dimensions
from distill.training import defaults

WIDTH = 8  # of the toy vectors
GENERAL = ["--general_words", "40", "--general_sentences", "20", "--dictionary", "60", "--vector_width", "5"]


@pytest.fixture(scope="session")
def few_labels_run(tmp_path_factory: pytest.TempPathFactory, tiny_flags: list[str], toy_vectors: Path) -> Path:
    """A finished run whose student has word vectors from the teacher and was trained on general texts too."""
    folder = tmp_path_factory.mktemp("runs") / "few"
    assert main([*tiny_flags, "--run", str(folder), *GENERAL, "--vectors", f"teacher+{toy_vectors}"]) == 0
    return folder


@pytest.fixture(scope="session")
def few_labels_bundle(few_labels_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that run's student, with all words."""
    return export_bundle(few_labels_run / "student", tmp_path_factory.mktemp("bundles") / "all_words")


def test_the_vocabulary_holds_dictionary_words_that_no_text_contains(few_labels_run: Path) -> None:
    student: Any = load_student(few_labels_run / "student").tokenizer
    words = student.vocabulary.words
    assert set(Segmenter().frequent_words(60)) <= set(words)
    word = next(word for word in Segmenter().frequent_words(60) if len(word) > 1)
    assert student.vocabulary.encode([word], 9) == [words.index(word)]


def test_word_vectors_join_the_teachers_and_the_pretrained_ones(few_labels_run: Path) -> None:
    widths = {
        name: load_file(few_labels_run / name / "student.safetensors")["embedding.weight"].shape[1]
        for name in ("student", "student_alone")
    }
    assert widths == {"student": 5 + WIDTH, "student_alone": WIDTH}  # the student alone has no teacher


def test_one_pass_computes_vectors_and_logits(few_labels_run: Path) -> None:
    """Logits that were computed with vectors are in the cache of logits; computed twice, they would be stored twice."""
    with_vectors = [load_file(path) for path in (few_labels_run / "cache" / "teacher.logits+vectors").glob("shard-*")]
    logits = [load_file(path) for path in sorted((few_labels_run / "cache" / "teacher.logits").glob("shard-*"))]
    logits_by_id = {int(i): row for shard in logits for i, row in zip(shard["ids"], shard["rows"], strict=True)}
    rounded = 0
    for rows in with_vectors:
        for text_id, row in zip(rows["ids"].tolist(), rows["rows"], strict=True):
            rounded += torch.equal(logits_by_id[text_id], row[:3].float())  # to half precision: from the same pass
    assert rounded == sum(len(rows["ids"]) for rows in with_vectors)


def test_the_same_command_keeps_the_student(
    few_labels_run: Path, tiny_flags: list[str], toy_vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [
        *tiny_flags,
        "--run",
        str(few_labels_run),
        *GENERAL,
        "--vectors",
        f"teacher+{toy_vectors}",
        "--mode",
        "train_student",
    ]
    assert main(flags) == 0
    assert f"{few_labels_run}/student: kept" in capsys.readouterr().out


def test_general_texts_get_their_share_of_an_epoch(
    tiny_flags: list[str], title_folder: Path, few_labels_run: Path
) -> None:
    data = dataclasses.replace(Settings().data, data=str(title_folder))
    transfer = TransferSettings(general_words=30, general_sentences=0, general_share=0.25)
    run = Run(Settings(run=RunSettings(run=str(few_labels_run)), data=data, transfer=transfer))
    spec = StudentSpec(
        run.student_settings("average", has_teacher=False), run.settings.alone().objective, general=run.general
    )
    chances = _StudentTrainer(run, spec)._sampling_weights()
    assert chances is not None and len(run.general) == 30
    assert float(chances[-30:].sum()) == pytest.approx(0.25) and float(chances.sum()) == pytest.approx(1)


@pytest.mark.parametrize("general_words", [0, 200])
def test_stratified_sampling_draws_every_class_equally_often(
    tmp_path: Path, few_labels_run: Path, general_words: int
) -> None:
    sizes = {"体育": 24, "财经": 8, "科技": 4}
    rows = [{"text": f"{label}的第{n}条", "label": label} for label, size in sizes.items() for n in range(size)]
    (tmp_path / "train.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "test.json").write_text(json.dumps([{"text": "另一条", "label": "体育"}]), "utf-8")
    data = dataclasses.replace(Settings().data, data=str(tmp_path))
    student = StudentSettings(sampling="stratified", architecture="average")
    transfer = TransferSettings(general_words=general_words, general_sentences=0)
    run = Run(Settings(run=RunSettings(run=str(tmp_path / "run")), data=data, student=student, transfer=transfer))
    teachers = (SavedTeacher(few_labels_run / "teacher"),) if general_words else ()
    objective = run.settings.objective if general_words else run.settings.alone().objective
    spec = StudentSpec(run.student_settings(has_teacher=False), objective, teachers, general=run.general)
    trainer = _StudentTrainer(run, spec)
    chances, own = trainer.train.sampling_weights, len(run.data.train)
    assert chances is not None and len(run.general) == general_words
    of_classes = torch.zeros(3, dtype=torch.float64).index_add_(0, trainer.train.labels[:own], chances[:own])
    assert torch.allclose(of_classes, of_classes.mean().expand(3))


def test_general_sentences_are_short_distinct_and_plain() -> None:
    sentences = read_sentences(24)
    assert len(sentences) == len(set(sentences)) > 40_000
    assert all(6 <= len(sentence) <= 24 for sentence in sentences)
    assert not [sentence for sentence in sentences if re.search("/[a-zA-Z]|[。１]", sentence)]


def test_reviews_come_first_among_the_general_sentences_of_a_task_like_them() -> None:
    reviews = [example.text for example in read_reviews(20)][:300]
    headlines = ["球队今天公布了新赛季的名单", "央行宣布下调存款准备金率", "新款手机将于下月发布"] * 100
    of_reviews, of_headlines = general_sentences(reviews, 42), general_sentences(headlines, 42)
    assert of_reviews == general_sentences(reviews, 42) != general_sentences(reviews, 7)
    known = {example.text for example in read_reviews(128)}
    count = len(known & set(of_reviews))
    assert (
        count == len(known) > 10_000 and set(of_reviews[:count]) == known
    )  # the news sentences come after all of them
    assert general_sentences(["好", "不太好"], 42) == []
    assert not known & set(of_headlines) and max(map(len, of_headlines)) == max(map(len, headlines))


def test_share_like_counts_the_texts_with_the_character_pairs_of_a_kind() -> None:
    fruit, weather = ["苹果很甜", "香蕉很甜"], ["明天下雨", "明天刮风"]
    assert share_like(["苹果不甜", "香蕉", "后天下雨"], fruit, weather) == pytest.approx(2 / 3)


def test_reduce_dimensions_keeps_the_directions_of_most_variance() -> None:
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(200, 2)).astype(np.float32)
    rows = (hidden @ generator.normal(size=(2, 20)) + 0.001 * generator.normal(size=(200, 20))).astype(np.float32)
    projected = reduce_dimensions(rows, 2)
    assert projected.shape == (200, 2) and float(projected.std()) == pytest.approx(VECTOR_STD, rel=1e-3)
    fitted = projected @ np.linalg.lstsq(projected, rows - rows.mean(0), rcond=None)[0]
    assert np.abs(fitted - (rows - rows.mean(0))).max() < 0.02  # two directions hold all twenty numbers
    assert reduce_dimensions(rows[:3], 50).shape == (3, 3)


# Settings chosen from the data


def dataset(texts: int, length: int, dev: int = 300) -> Dataset:
    examples = tuple(Example(number, "字" * length, number % 2) for number in range(texts))
    return Dataset(examples, examples[:dev], examples[:1], ("甲", "乙"), {})


@pytest.mark.parametrize(
    ("texts", "epochs", "batch"), [(50, 8, 16), (900, 8, 16), (5_705, 6, 32), (9_000, 4, 32), (23_509, 2, 32)]
)
def test_a_teacher_of_few_texts_is_trained_for_more_epochs(texts: int, epochs: int, batch: int) -> None:
    chosen = defaults.teacher_settings(TeacherSettings(), dataset(texts, 20))
    assert (chosen.epochs, chosen.batch_size) == (epochs, batch)


@pytest.mark.parametrize(("length", "read"), [(5, 64), (54, 64), (100, 112), (1_000, 256)])
def test_texts_are_not_truncated_up_to_a_limit(length: int, read: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "distill"):
        chosen = defaults.teacher_settings(TeacherSettings(), dataset(1_000, length))
    assert chosen.max_length == read
    assert ("1000 of 1000 texts have more characters" in caplog.text) == (length > 256)


@pytest.mark.parametrize(("epochs", "words"), [(1, "at most 1 epoch of 63"), (2, "at most 2 epochs of 63")])
def test_one_epoch_is_singular(epochs: int, words: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "distill"):
        defaults.teacher_settings(TeacherSettings(epochs=epochs, batch_size=16), dataset(1_000, 20))
    assert words in caplog.text


def test_given_settings_are_kept() -> None:
    given = TeacherSettings(epochs=3, batch_size=7, max_length=99)
    assert defaults.teacher_settings(given, dataset(100, 20)) == given
    student = defaults.student_settings(
        StudentSettings(max_length=9, vectors="bundled"), dataset(100, 20), has_teacher=True
    )
    assert (student.max_length, student.vectors, student.dictionary) == (9, "bundled", 0)
    assert defaults.student_epochs(StudentSettings(epochs=3), 10) == 3


@pytest.mark.parametrize(
    ("texts", "taught", "vectors"),
    [(500, True, "teacher+auto"), (500, False, "auto"), (30_000, True, "teacher+auto"), (30_001, True, "auto")],
)
def test_the_teacher_computes_vectors_when_texts_are_few(texts: int, taught: bool, vectors: str) -> None:
    student = defaults.student_settings(StudentSettings(), dataset(texts, 20), has_teacher=taught)
    assert student.vectors == vectors and (student.dictionary > 0) == (vectors != "auto")


def test_few_texts_without_unlabelled_ones_get_general_texts_and_advice(
    caplog: pytest.LogCaptureFixture,
) -> None:
    small, student = dataset(500, 20), StudentSettings()
    with caplog.at_level("INFO", "distill"):
        chosen = defaults.transfer_settings(TransferSettings(), small, student, unlabelled=10)
    assert chosen.general_words > 0 and "--unlabeled FILE" in caplog.text
    for data, settings, unlabelled in (
        (small, student, 50_000),
        (dataset(50_000, 20), student, 0),
        (small, StudentSettings(architecture="textgcn"), 0),
    ):
        filled = defaults.transfer_settings(TransferSettings(), data, settings, unlabelled)
        assert (filled.general_words, filled.general_sentences) == (0, 0)


@pytest.mark.parametrize(("texts", "share"), [(4_000, 0.5), (4_001, 0.3)])
def test_the_share_of_general_texts_falls_with_the_number_of_train_texts(texts: int, share: float) -> None:
    chosen = defaults.transfer_settings(TransferSettings(), dataset(texts, 20), StudentSettings(), unlabelled=0)
    assert chosen.general_share == share
    given = TransferSettings(general_share=0.9)
    assert defaults.transfer_settings(given, dataset(texts, 20), StudentSettings(), unlabelled=0).general_share == 0.9


@pytest.mark.parametrize(("own", "epochs"), [(500, 3), (11_203, 4), (21_158, 6)])
def test_general_texts_do_not_reduce_how_often_train_texts_are_read(own: int, epochs: int) -> None:
    settings = StudentSettings(batch_size=64)
    assert defaults.student_epochs(settings, own + 40_000, 40_000) == epochs


def test_a_small_dev_set_selects_nothing() -> None:
    assert defaults.keeps_last_weights(dataset(2_000, 20, dev=199)) and not defaults.keeps_last_weights(
        dataset(2_000, 20, dev=200)
    )


# Poor teachers


@pytest.mark.parametrize(
    ("right", "other", "below"),
    [("1111", "1111", False), ("1110", "1111", False), ("110000", "111111", True), ("1100", "1111", False)],
)
def test_is_below_needs_a_significant_difference(right: str, other: str, below: bool) -> None:
    as_marks: Callable[[str], Any] = lambda marks: np.array([mark == "1" for mark in marks])  # noqa: E731
    assert is_below(as_marks(right), as_marks(other)) is below


def test_a_teacher_worse_than_a_linear_model_is_reported_and_gets_little_weight(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    untrained = ["--teacher_lr", "0", "--teacher_head_lr", "0"]
    assert main([*tiny_flags, *untrained, "--run", str(tmp_path / "run")]) == 0
    output = capsys.readouterr().out
    assert (
        output.rstrip().splitlines()[-1].startswith("warning: The teacher is worse than a linear model: dev accuracy")
    )
    report = json.loads((tmp_path / "run" / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["warning"].startswith("The teacher is worse") and report["linear_svc"]["accuracy"] > 0.9
    assert (tmp_path / "run" / "report" / "report.md").read_text(encoding="utf-8").splitlines()[2].startswith("**The")
    made_from = json.loads((tmp_path / "run" / "student" / "made_from.json").read_text(encoding="utf-8"))
    assert made_from["objective"]["weights"] == {"labels": 1.0, "logits": 0.1}
    rows = {row["name"]: row["accuracy"] for row in report["rows"]}
    assert rows["student"] > rows["teacher"] + 0.3


def test_a_teacher_below_the_linear_model_is_trained_longer(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(defaults, "TEACHER_EPOCHS", (1, 1))
    place = tiny_flags.index("--teacher_epochs")
    flags = [*tiny_flags[:place], *tiny_flags[place + 2 :], "--mode", "train_teacher", "--run", str(tmp_path / "run")]
    assert main(flags) == 0
    assert "trained again, up to 2 epochs" in capsys.readouterr().out


# The size limit of a bundle


def test_a_bundle_keeps_its_words_in_8_bits_to_fit(
    few_labels_run: Path, few_labels_bundle: Path, tmp_path: Path
) -> None:
    from distill.runtime import load

    whole = read_bundle(few_labels_bundle).arrays
    export_bundle(few_labels_run / "student", smaller := tmp_path / "smaller", _size(whole) - 1)
    arrays = read_bundle(smaller).arrays
    assert arrays["words"].dtype == np.int8 and _size(whole) - _size(arrays) == whole["words"].size
    words, expected = (dequantise(these["words"], these["words.scale"]) for these in (arrays, whole))
    assert (np.abs(words - expected) <= 0.51 * arrays["words.scale"]).all()
    texts = ["银行股票大跌", "没有这些问题", "教练和球队"]
    assert np.allclose(load(smaller).logits(texts), load(few_labels_bundle).logits(texts), atol=0.05)


def test_a_bundle_leaves_out_its_rarest_words_if_8_bits_are_not_enough(
    few_labels_run: Path, few_labels_bundle: Path, tmp_path: Path
) -> None:
    whole = read_bundle(few_labels_bundle).arrays
    size = _size(whole) - whole["words"].size  # in 8 bits
    pruned = export_bundle(few_labels_run / "student", tmp_path / "pruned", size - 1_000)
    arrays = read_bundle(pruned).arrays
    count = len(arrays["words"])
    assert 10 < count < len(whole["words"]) and _size(arrays) <= size - 1_000

    from distill.runtime import load

    student: Any = load_student(few_labels_run / "student")
    fewer = Vocabulary(student.tokenizer.vocabulary.words[:count])
    expected = dataclasses.replace(student, tokenizer=dataclasses.replace(student.tokenizer, vocabulary=fewer))
    texts = ["银行股票大跌", "没有这些问题", "教练和球队"]
    assert np.allclose(load(pruned).logits(texts), expected.logits(texts).numpy(), atol=0.1)


def test_export_logs_the_accuracy_without_the_words_left_out(
    few_labels_run: Path, few_labels_bundle: Path, tiny_flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = read_bundle(few_labels_bundle).arrays
    size = _size(arrays) - arrays["words"].size - 1_000
    flags = [*tiny_flags, "--run", str(few_labels_run), "--mode", "export", "--max_mb", f"{size / 1e6:.6f}"]
    assert main(flags) == 0
    assert "in 8 bits instead of 16" in (output := capsys.readouterr().out) and "with all words in 16 bits" in output
    card = model_card.read(few_labels_run / "bundle")
    assert card and card.lacks_words and card.reduced.keys() == {"words", "of", "dev", "student_dev"}
    content = (few_labels_run / "bundle" / MODEL_CARD).read_text(encoding="utf-8")
    assert f"The bundle holds {card.reduced['words']} of {card.reduced['of']}" in content
    assert "on test" in content and "model-index" not in content


@pytest.mark.parametrize("rows", ["", "text,label\n" + "".join(f"标题{n},{'ab'[n % 2]}\n" for n in range(40))])
def test_what_8_bits_cost_is_not_measured_on_other_data(
    rows: str, few_labels_run: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The student may have been trained on those dev texts, and its labels may be others; or there are no data."""
    (folder := tmp_path / "data").mkdir()
    if rows:
        (folder / "train.csv").write_text(rows, "utf-8")
    size = _size(read_bundle(export_bundle(few_labels_run / "student", tmp_path / "whole")).arrays) - 1
    flags = ["--run", str(tmp_path / "run"), "--mode", "export", "--max_mb", f"{size / 1e6:.6f}"]
    assert main([*on_data(tiny_flags, folder), *flags, "--student_folder", str(few_labels_run / "student")]) == 0
    assert "what that costs is not measured" in capsys.readouterr().out
    card = model_card.read(tmp_path / "run" / "bundle")
    assert card and not card.lacks_words and card.reduced.keys() == {"words", "of"}


def test_the_benchmark_times_the_bundle_that_ships(
    few_labels_run: Path, few_labels_bundle: Path, tiny_flags: list[str], tmp_path: Path
) -> None:
    size = _size(read_bundle(few_labels_bundle).arrays) - 1
    flags = [*tiny_flags, "--run", str(few_labels_run), "--max_mb", f"{size / 1e6:.6f}"]
    bench = candidates.Bench(Run(settings_from(vars(parser().parse_args(flags)))), tmp_path, (1,))
    timed = candidates._exported(bench, few_labels_run / "student")
    assert read_bundle(timed).arrays["words"].dtype == np.int8


def _size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays.values())


def test_a_general_text_is_not_in_train_dev_or_test(title_folder: Path, tmp_path: Path) -> None:
    data = dataclasses.replace(Settings().data, data=str(title_folder))
    transfer = TransferSettings(general_words=50, general_sentences=0)
    run = Run(Settings(run=RunSettings(run=str(tmp_path)), data=data, transfer=transfer))
    word = Segmenter().frequent_words(1)[0]
    held = dataclasses.replace(run.data, test=(*run.data.test, Example(example_id(word), word, 0)))
    run.__dict__["data"] = held
    assert example_id(word) not in {example.id for example in run.general} and len(run.general) == 49
