"""The speed table: rows computed by hand, table and plot, measuring, baselines, and ``--mode benchmark``."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarking import QUICK, TINY, quick_benchmark
from transformers import BertConfig

from distill.cli import parser, settings_from
from distill.commands.benchmark import candidates, timing
from distill.commands.benchmark.table import benchmark
from distill.commands.benchmark.timing import Candidate, measure
from distill.commands.experiment import Run
from distill.errors import UserError
from distill.evaluation.baselines import bert_base as yard
from distill.evaluation.baselines.fasttext import FastText
from distill.evaluation.timing import interleaved_rounds
from distill.reporting.results import to_json
from distill.reporting.speed import COLUMNS, Measurement, Speed, rows_of, write
from distill.reporting.tables import display_width, three_digits
from distill.text.segmentation import Segmenter

__all__ = ["quick_benchmark"]  # a fixture

BERT = Measurement("bert", 1, 32, 64, (0.06, 0.05, 0.08), (0.1, 0.2, 0.3), 900.4, 5.0)
BUNDLE = Measurement(
    "student, bundle",
    1,
    512,
    3599,
    (3e-6, 2e-6, 2.5e-6, 2e-6, 4e-6),
    tuple(n * 1e-6 for n in range(101)),
    50.0,
    0.2,
    12_000_000,
    0.7912,
    1.0,
)
BOTH = dataclasses.replace(BUNDLE, threads=2, rounds=(1e-6,), singles=(), memory_mb=None, start_s=None)
KEYS = ["name", "threads", "batch", "us_per_text", "us_low", "us_high", "texts_per_s", "p50_us", "p99_us"]
KEYS += ["memory_mb", "start_s", "size_mb", "accuracy", "speedup", "labels_equal", "texts", "rounds", "calls"]


def test_rows_by_hand() -> None:
    bert, bundle, both = rows = rows_of([BERT, BUNDLE, BOTH], "bert")
    assert all(list(to_json(row)) == KEYS for row in rows)
    assert bundle.us_per_text == pytest.approx(2.5) and bundle.texts_per_s == pytest.approx(400_000)
    assert (bundle.us_low, bundle.us_high) == pytest.approx((2, 4))
    assert (bundle.p50_us, bundle.p99_us) == pytest.approx((50, 99))
    assert bundle.speedup == pytest.approx(0.06 / 2.5e-6) and both.speedup == pytest.approx(60_000)
    assert (bundle.size_mb, bundle.rounds, bundle.calls) == (12, 5, 101)
    assert bert.speedup == 1 and bert.accuracy is bert.labels_equal is bert.size_mb is None
    assert both.p50_us is both.p99_us is both.memory_mb is None


def test_without_the_reference_model_there_is_no_speedup() -> None:
    two_threads = dataclasses.replace(BERT, threads=2)
    assert [row.speedup for row in rows_of([two_threads, BUNDLE], "bert")] == [None, None]


def table(*measured: Measurement) -> Speed:
    return Speed(measured, "bert", "a processor", 3599, 5, {"torch": "2"}, {"seed": 1}, ["How.", "Left out: x."])


def test_write(tmp_path: Path) -> None:
    text, files = write(table(BERT, BUNDLE, BOTH), tmp_path / "benchmark")
    assert [path.name for path in files] == ["benchmark.json", "benchmark.md", "benchmark.png"]
    content = json.loads(files[0].read_text("utf-8"))
    assert content["rows"] == [to_json(row) for row in rows_of([BERT, BUNDLE, BOTH], "bert")]
    assert (content["machine"], content["texts"], content["rounds"]) == ("a processor", 3599, 5)
    assert content["versions"] == {"torch": "2"} and content["notes"] == ["How.", "Left out: x."]
    page = files[1].read_text("utf-8")
    line = "| student, bundle | 1 | 512 | 2.50 (2.00 to 4.00) | 400,000 | 50.0 | 99.0 | 50 | 0.20 | 12.0 | 0.7912 |"
    assert f"{line} 24,000 | 100.00 % |" in page
    assert "| 60,000 (50,000 to 80,000) | 17 | 200,000 |" in page and "- Left out: x." in page
    assert "| student, bundle | 2 | 512 | 1.00 (1.00 to 1.00) | 1,000,000 | - | - | - | - |" in page
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert "Left out: x." in text and "24,000" in text


def test_every_column_is_explained(tmp_path: Path) -> None:
    page = write(table(BERT, BUNDLE), tmp_path)[1][1].read_text("utf-8")
    header = [title.strip() for title in page.splitlines()[2].split("|")[2:-1]]
    assert [line.split("**")[1] for line in page.splitlines() if line.startswith("- **")] == header
    assert len(header) == len(COLUMNS) and "than bert with one thread" in page


def test_the_terminal_lines_fit(tmp_path: Path) -> None:
    lines = write(table(BERT, BUNDLE, BOTH), tmp_path)[0].splitlines()[:4]
    assert len({display_width(line) for line in lines}) == 1 and display_width(lines[0]) <= 100


def test_a_plot_of_lines_alone(tmp_path: Path) -> None:
    assert write(table(BERT), tmp_path)[1][2].read_bytes().startswith(b"\x89PNG")


def test_figures_have_three_digits() -> None:
    assert [three_digits(value) for value in (0.123, 2.5, 12.34, 123.4, 61234.5)] == [
        "0.12",
        "2.50",
        "12.3",
        "123",
        "61,234",
    ]


def opening(label: Callable[[str], str], log: list[tuple[int, int]] | None = None) -> Callable[[int], object]:
    """A candidate's ``open``; ``log`` gets the number of threads it was opened for and that of PyTorch."""

    def opened(threads: int) -> Callable[[Sequence[str]], list[str]]:
        def predict(texts: Sequence[str]) -> list[str]:
            if log is not None:
                log.append((threads, torch.get_num_threads()))
            return [label(text) for text in texts]

        return predict

    return opened


def test_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "interleaved_rounds", partial(interleaved_rounds, min_seconds=0))
    threads_before = torch.get_num_threads()
    log: list[tuple[int, int]] = []
    candidates = [
        Candidate("torch", opening(str.upper), 1, QUICK, bytes=7),
        Candidate(
            "bundle",
            opening(lambda text: "B", log),
            2,
            QUICK,
            (1, 2),
            reference="torch",
            process_code=("predict = len",),
        ),
        Candidate("jieba", opening(str), 1, QUICK, gives_labels=False, process_code=("1 / 0",)),
        Candidate("lost", opening(str.upper), 1, QUICK, reference="unavailable"),
    ]
    rows, failed = measure(candidates, ["a", "b", "b", "c"], ["A", "A", "B", "B"])
    torch.set_num_threads(threads_before)
    assert [(row.name, row.threads) for row in rows] == [
        ("torch", 1),
        ("bundle", 1),
        ("bundle", 2),
        ("jieba", 1),
        ("lost", 1),
    ]
    assert [row.accuracy for row in rows] == [0.5, 0.5, 0.5, None, 0.5]
    assert [row.labels_equal for row in rows] == [None, 0.5, 0.5, None, None]
    assert [len(row.singles) for row in rows] == [3, 3, 0, 3, 3]
    assert [(row.texts, len(row.rounds)) for row in rows] == [(2, 2)] * 5
    assert rows[0].bytes == 7 and rows[1].memory_mb and rows[1].start_s and rows[2].memory_mb is None
    assert len(failed) == 1 and "jieba" in failed[0] and "ZeroDivisionError" in failed[0]
    one, two = (1, 1), (2, 2)
    assert log[:7] == [two, one, two, one, two, one, two] and set(log[7:]) == {one}  # labels, rounds, single texts


def test_the_stand_in_has_bert_base_chineses_shape(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=yard.VOCABULARY)
    sizes = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
    assert sizes == (768, 12, 12, 3072) and config.max_position_embeddings == 512
    network, _ = yard._random(BertConfig(**{**TINY.to_dict(), "num_hidden_layers": 3}))
    layers = network.encoder.encoder.layer  # type: ignore[union-attr]
    assert len(layers) == network.encoder.config.num_hidden_layers == 3  # type: ignore[arg-type, union-attr]
    storage = {parameter.data_ptr() for layer in layers for parameter in layer.parameters()}  # type: ignore[union-attr]
    assert len(storage) == sum(len(list(layer.parameters())) for layer in layers)  # type: ignore[union-attr, misc]
    predict, description = yard.bert_base(tmp_path / "bert-base-chinese", TINY)
    assert len(predict(["好", "iPhone 12 发布了", ""])) == 3
    assert "random weights, timing only" in description and str(tmp_path) in description


def test_the_stand_in_makes_word_pieces_as_bert_does() -> None:
    wordpieces = yard.stand_in(64)
    packed = wordpieces.encode(["球队iPhone 12发布", "", "球" * 99])
    assert packed.lengths.tolist() == [2 + 2 + 2 + 2, 2, 64]
    assert len(wordpieces.tokenizer) <= yard.VOCABULARY


def test_the_real_weights_are_used_where_they_are(tiny_bert: Path) -> None:
    predict, description = yard.bert_base(tiny_bert)
    assert len(predict(["球队"] * 40)) == 40 and "own weights" in description and "random" not in description


class Package(types.ModuleType):
    """A fake of the package fasttext that remembers its training texts."""

    FastText = types.SimpleNamespace(eprint=print)

    def train_supervised(self, path: str, **settings: object) -> Package:
        self.lines, self.settings = Path(path).read_text("utf-8").splitlines(), settings
        return self

    def predict(self, lines: Sequence[str]) -> tuple[list[list[str]], None]:
        label_by_text = dict(reversed(line.split(" ", 1)) for line in self.lines)
        return [[label_by_text[line]] if line in label_by_text else [] for line in lines], None

    def save_model(self, path: str) -> None:
        Path(path).write_bytes(b"12345")


class Characters(Segmenter):
    def segment(self, text: str) -> list[str]:
        return list(text)


class Whitespace(Segmenter):
    def segment(self, text: str) -> list[str]:
        return text.split()


def test_fasttext(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("fasttext")
    monkeypatch.setitem(sys.modules, "fasttext", package)
    model = FastText([["股票"], ["球队", "\n", "赢"]], [3, 1], Characters())
    assert package.lines == ["__label__3 股票", "__label__1 球队 赢"]
    assert package.settings["thread"] == package.settings["seed"] == 1
    assert model.predict(["股票"]) == [0]  # segmented into characters
    model = FastText([["股票"], ["球队", "\n", "赢"]], [3, 1], Whitespace())
    assert model.predict(["球队 赢", "股票", "half \ud800"]) == [1, 3, 0] and model.bytes == 5


def test_fasttext_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(UserError, match="fasttext is not installed") as error:
        FastText([["股票"]], [0], Segmenter())
    assert error.value.hint == "pip install fasttext-wheel"


def test_the_real_fasttext() -> None:
    pytest.importorskip("fasttext")
    texts = ["球队 比赛"] * 50, ["股票 银行"] * 50
    model = FastText([text.split() for group in texts for text in group], [0] * 50 + [1] * 50, Segmenter())
    assert model.predict(["球队比赛", "股票银行", ""])[:2] == [0, 1] and model.bytes > 1000


def run_of(folder: Path, flags: Sequence[str]) -> Run:
    flags = [*flags, "--run", str(folder), "--mode", "benchmark"]
    return Run(settings_from(vars(parser().parse_args(flags))))


def test_nothing_trained(tmp_path: Path, tiny_flags: list[str]) -> None:
    with pytest.raises(UserError, match="no student is trained") as error:
        benchmark(run_of(tmp_path, tiny_flags))
    assert "python distill.py --mode" in error.value.hint
    with pytest.raises(UserError, match="not a student's folder"):
        benchmark(run_of(tmp_path, [*tiny_flags, "--student_folder", str(tmp_path / "nowhere")]))


def test_the_student_of_the_run_must_be_trained_on_these_data(finished_run: Path, tiny_flags: list[str]) -> None:
    with pytest.raises(UserError, match="trained on other data"):
        benchmark(run_of(finished_run, [*tiny_flags, "--seed", "7"]))


def test_a_gpu_has_rows_of_its_own(
    monkeypatch: pytest.MonkeyPatch, finished_run: Path, tmp_path: Path, tiny_flags: list[str]
) -> None:
    bench = candidates.Bench(run_of(finished_run, tiny_flags), tmp_path, (1, 2))
    without = [name for name, _ in candidates.candidate_factories(bench)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with_gpu = [name for name, _ in candidates.candidate_factories(bench)]
    assert set(with_gpu) - set(without) == {"student, GPU", "teacher, GPU"} and len(without) == len(with_gpu) - 2


@pytest.mark.usefixtures("quick_benchmark")
def test_benchmark(finished_run: Path, tiny_flags: list[str]) -> None:
    threads = torch.get_num_threads()
    files = benchmark(run_of(finished_run, tiny_flags))
    assert torch.get_num_threads() == threads
    assert [path.parent for path in files] == [finished_run / "benchmark"] * 3
    content = json.loads(files[0].read_text("utf-8"))
    rows = {row["name"]: row for row in content["rows"] if row["threads"] == 1}
    assert {"student, bundle", "student, PyTorch", "teacher, fp32", "LinearSVC", "jieba alone"} <= rows.keys()
    assert rows["student, bundle"]["labels_equal"] == 1
    report = json.loads((finished_run / "report" / "report.json").read_text("utf-8"))["rows"]
    correct = rows["student, PyTorch"]["accuracy"] * 30
    assert correct == pytest.approx(round(correct)) and correct > 15
    assert rows["teacher, fp32"]["accuracy"] == pytest.approx(report[0]["accuracy"])
    assert rows["jieba alone"]["accuracy"] is rows["bert-base-chinese, fp32"]["accuracy"] is None
    assert rows["bert-base-chinese, fp32"]["speedup"] == 1
    assert rows["student, bundle"]["memory_mb"] == 30 and rows["LinearSVC"]["memory_mb"] is None
    assert any("Left out: fastText" in note and "pip install" in note for note in content["notes"])
    assert content["texts"] == 30 and content["rounds"] == timing.QUICK.rounds


def test_without_labels_the_score_is_agreement(
    monkeypatch: pytest.MonkeyPatch, finished_run: Path, tmp_path: Path, tiny_flags: list[str]
) -> None:
    run = run_of(tmp_path, [*tiny_flags, "--student_folder", str(finished_run / "student")])
    run.data = dataclasses.replace(run.data, has_labels=False)
    monkeypatch.setattr("distill.commands.benchmark.table.measure", lambda *_: ([BERT, BUNDLE], []))
    content, page, _ = (path.read_bytes() for path in benchmark(run))
    assert json.loads(content)["measured"] == "agreement"
    assert "| agreement |" in page.decode() and "accuracy**" not in page.decode()


@pytest.mark.usefixtures("quick_benchmark")
def test_several_students_of_other_folders(finished_run: Path, tmp_path: Path, tiny_flags: list[str]) -> None:
    students = [finished_run / "student", finished_run / "student.2"]
    flags = [*tiny_flags, "--seed", "7", *(part for folder in students for part in ("--student_folder", str(folder)))]
    content = json.loads(benchmark(run_of(tmp_path, flags))[0].read_text("utf-8"))
    names = [row["name"] for row in content["rows"]]
    assert "student 1, finished/student, bundle" in names and "student 2, finished/student.2, PyTorch" in names
    assert any("student.2: trained on other data" in note for note in content["notes"])
    assert any(note.startswith("Left out: teacher, fp32. There is no trained teacher") for note in content["notes"])
