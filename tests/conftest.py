"""Tiny real parts: a random 2-layer BERT with a Chinese vocabulary, toy word vectors, 120 Chinese titles."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from threads, and tests run in parallel

import hypothesis
import jieba
import numpy as np
import pytest
import torch
from benchmarking import tiny_bert_base
from transformers import BertConfig, BertModel, BertTokenizerFast

from distill.cli import main
from distill.config import STUDENTS, StudentSettings
from distill.evaluation.timing import interleaved_rounds
from distill.export.bundle import export_bundle
from distill.models.build import build_student
from distill.models.checkpoint import save_student
from distill.models.student import SavedStudent
from distill.models.text_classifier import load_student
from distill.models.tokenizer import WordTokenizer
from distill.runtime.constants import ELEMENTWISE_CELLS
from distill.runtime.tasks import Task
from distill.text.vocabulary import Vocabulary

hypothesis.settings.register_profile("distill", deadline=None)  # the first call may compile kernels or load jieba
hypothesis.settings.load_profile("distill")

SUBJECTS = {
    "体育": ("球队", "教练", "比赛", "冠军", "进球"),
    "财经": ("股票", "基金", "银行", "价格", "投资"),
    "科技": ("手机", "芯片", "软件", "电脑", "网络"),
}
# The keys of ``Dataset.counts``.
COUNTS = [
    "train",
    "dev",
    "test",
    "test_distinct",
    "train_rows_read",
    "leaks",
    "leaks_into_dev",
    "dev_leaks",
    "duplicates",
    "conflicts",
]
WORD_STUDENTS = [name for name, kind in STUDENTS.items() if not kind.transductive]
# Settings of every network that can be exported.
NETWORKS: dict[str, dict[str, Any]] = {
    **{name: {"architecture": name} for name in WORD_STUDENTS},
    "gru": {"architecture": "bilstm", "cell": "gru"},
    "sentence": {"architecture": "bilstm", "input": "sentence"},
    "gru over a sentence": {"architecture": "bilstm", "input": "sentence", "cell": "gru"},
    **{cell: {"architecture": "bilstm", "cell": cell} for cell in ELEMENTWISE_CELLS},
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SLOWEST = ("test_compare", "test_pipelines", "test_few_labels", "test_tutorial", "test_teacher", "test_ray_engine")
ENDINGS = (
    "今天公布新消息",
    "为什么这么火",
    "到底怎么样",
    "让人没想到",
    "又上了头条",
    "大家怎么看",
    "迎来好消息",
    "出了问题",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slowest files first; otherwise one process would still run them when the other is done."""
    items.sort(key=lambda item: SLOWEST.index(item.path.stem) if item.path.stem in SLOWEST else len(SLOWEST))


def output_of(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int = 0) -> str:
    """What a command printed, standard output first, then standard error."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    return captured.out + captured.err


def titles(start: int, stop: int) -> list[tuple[str, str]]:
    """Distinct (text, label) pairs; the text's subject determines its label."""
    pairs = [
        (f"{subject}{ending}", label)
        for ending in ENDINGS
        for index in range(5)
        for label, subjects in SUBJECTS.items()
        for subject in (subjects[index],)
    ]
    return pairs[start:stop]


@pytest.fixture(scope="session", autouse=True)
def quick_report() -> Iterator[None]:
    """Time models only briefly in reports, and a tiny stand-in of bert-base-chinese, which takes no seconds."""
    with pytest.MonkeyPatch.context() as patch:
        briefly = functools.partial(interleaved_rounds, min_seconds=0)
        patch.setattr("distill.commands.benchmark.timing.interleaved_rounds", briefly)
        patch.setattr("distill.commands.benchmark.candidates.bert_base", tiny_bert_base)
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests. It starts before any model is trained, so that its absence skips at once."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -r requirements-dev.txt")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint laid out like bert-base-chinese: vocab.txt, config.json, model.safetensors."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny-bert-chinese"
    characters = sorted({char for text, _ in titles(0, 200) for char in text})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=40, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def toy_vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Word vectors in word2vec's text format, 8 wide, for the subjects and some characters."""
    words = [*(word for group in SUBJECTS.values() for word in group), *"今天公布新消息为什么火"]
    return write_vectors(tmp_path_factory.mktemp("vectors") / "toy.txt", words, 8)


def write_vectors(path: Path, words: list[str], width: int) -> Path:
    """Random vectors as word2vec text."""
    rows = np.random.default_rng(0).normal(size=(len(words), width))
    lines = [f"{word} {' '.join(f'{number:.4f}' for number in row)}" for word, row in zip(words, rows, strict=True)]
    path.write_text("\n".join([f"{len(words)} {width}", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def title_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in the reference repo's JSON: 90 train and 30 test titles of three classes."""
    folder = tmp_path_factory.mktemp("data") / "titles"
    folder.mkdir()
    for name, start, stop in (("train", 0, 90), ("test", 90, 120)):
        rows = [{"text": text, "label": label} for text, label in titles(start, stop)]
        (folder / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_flags(tiny_bert: Path, toy_vectors: Path, title_folder: Path) -> list[str]:
    """Flags of a run that takes seconds."""
    flags = "--teacher_epochs 12 --teacher_lr 2e-3 --student_epochs 30 --student_hidden 8 --student_batch 16"
    rates = "--student_lr 2e-2 --vector_lr 5e-2"
    paths = ["--data", str(title_folder), "--teacher_model", str(tiny_bert)]
    general = "--general_words 0 --general_sentences 0 --vectors"
    return [*paths, *flags.split(), *rates.split(), *general.split(), str(toy_vectors)]


def on_data(flags: list[str], folder: Path) -> list[str]:
    """The flags with another data folder; a second --data would be a second task."""
    place = flags.index("--data") + 1
    return [*flags[:place], str(folder), *flags[place + 1 :]]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_flags: list[str]) -> Path:
    """A run's folder after --mode all with two seeds; tests only read it or copy it."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main([*tiny_flags, "--run", str(folder), "--seeds", "2"]) == 0
    return folder


@pytest.fixture(scope="session")
def bundle(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the finished run's student; tests only read it."""
    return export_bundle(finished_run / "student", tmp_path_factory.mktemp("shipped") / "bundle")


def random_student(folder: Path, classes: int) -> tuple[SavedStudent, WordTokenizer]:
    """The network of a student with random weights and its tokenizer, and the folder for it."""
    words = [word for group in SUBJECTS.values() for word in group]
    torch.manual_seed(0)
    vectors = np.random.default_rng(0).standard_normal((len(words) + 2, 10)).astype(np.float32)
    vocabulary = Vocabulary(("<pad>", "<unk>", *words))
    settings = StudentSettings(architecture="average", hidden=16, ngrams=0, word_dropout=0.0)
    model = build_student(settings, vectors, vocabulary.words, classes).for_inference()
    torch.nn.init.normal_(model.classifier.weight)
    folder.mkdir(parents=True)
    return model, WordTokenizer(vocabulary, 20, 0)


def multi_label_student(folder: Path, labels: tuple[str, ...] = tuple(SUBJECTS)) -> Path:
    """A student with random weights; each label is given to about half of the titles."""
    model, tokenizer = random_student(folder, len(labels))
    save_student(folder, model, tokenizer, labels, 1.5, thresholds=[0.5] * len(labels))
    means = load_student(folder).predict_proba([text for text, _ in titles(0, 120)]).mean(axis=0)
    save_student(folder, model, tokenizer, labels, 1.5, thresholds=means.tolist())
    return folder


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a student that gives a text any number of labels; tests only read it."""
    return multi_label_student(tmp_path_factory.mktemp("several") / "student")


@pytest.fixture(scope="session")
def several_bundle(several: Path) -> Path:
    """The bundle of that student; tests only read it."""
    return export_bundle(several, several.with_name("bundle"))


@pytest.fixture(scope="session")
def of_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a student of two tasks: one of the titles' subjects, and any number of two signs."""
    folder = tmp_path_factory.mktemp("tasks") / "student"
    topic = Task("topic", tuple(SUBJECTS))
    model, tokenizer = random_student(folder, len(topic.labels) + 2)
    save_student(folder, model, tokenizer, (), tasks=[topic, Task("sign", ("新", "热"), (0.5, 0.6))])
    return folder


@pytest.fixture(scope="session")
def bundle_of_tasks(of_tasks: Path) -> Path:
    """The bundle of that student; tests only read it."""
    return export_bundle(of_tasks, of_tasks.with_name("bundle"))


@pytest.fixture(scope="module")
def small_dictionary() -> Iterator[None]:
    """jieba with a few words for the tests of a module, so that a bundle, which holds them, is written quickly."""
    words = (*(word for group in SUBJECTS.values() for word in group), "今天", "公布", "消息", "为什么", "怎么样")
    tokenizer = jieba.Tokenizer()
    prefixes = {word[:end] for word in words for end in range(1, len(word))}
    tokenizer.FREQ = {**dict.fromkeys(prefixes, 0), **dict.fromkeys(words, 100)}
    tokenizer.total, tokenizer.initialized = 100 * len(words), True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.text.segmentation._shared_tokenizer", lambda: tokenizer)
        yield
