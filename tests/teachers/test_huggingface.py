"""Fine-tuned classifiers of transformers as teachers: the same logits as its pipeline, labels by name, errors."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from classifiers import build
from conftest import SUBJECTS, output_of, titles
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

from distill.cli import main
from distill.errors import UserError
from distill.models import transformers_checkpoint
from distill.models.text_classifier import TextClassifier
from distill.teachers import LabellingTask, resolve
from distill.teachers.base import ModelTeacher
from distill.text.segmentation import Segmenter

LABELS = tuple(SUBJECTS)
TEXTS = ["球队今天公布新消息", "基金怎么看", "手", "芯片" * 40]


def task(labels: tuple[str, ...] = LABELS, max_length: int = 64) -> LabellingTask:
    return LabellingTask(labels, Segmenter(), max_length)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A classifier that ``transformers.Trainer`` fine-tuned on the titles for a few steps, and saved."""
    folder = tmp_path_factory.mktemp("classifiers") / "fine-tuned"
    model = build(folder, tiny_bert, LABELS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [
        {**tokenizer(text, truncation=True, max_length=40), "labels": LABELS.index(label)}
        for text, label in titles(0, 90)
    ]
    arguments = TrainingArguments(
        str(folder / "trainer"),
        max_steps=60,
        per_device_train_batch_size=16,
        learning_rate=5e-3,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=1000,
    )
    trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(folder))
    return folder


def opened(folder: Path, names: dict[str, str] | None = None, **options: Any) -> TextClassifier:
    """The teacher's model, in float32."""
    teacher = resolve(str(folder), names or {})
    assert isinstance(teacher, ModelTeacher)
    model = teacher.classifier(task(**options))
    model.model.bf16 = False  # type: ignore[assignment]
    return model


def scores_of_pipeline(folder: Path, texts: list[str]) -> torch.Tensor:
    classify = pipeline("text-classification", model=str(folder), device="cpu", top_k=None)
    rows = classify(texts, truncation=True, max_length=40, function_to_apply="none")
    return torch.tensor([[next(s["score"] for s in row if s["label"] == label) for label in LABELS] for row in rows])


def test_the_logits_are_those_of_transformers_own_pipeline(classifier: Path) -> None:
    """Also for texts that are truncated, and for any order of the data's labels."""
    expected = scores_of_pipeline(classifier, TEXTS)
    assert torch.allclose(opened(classifier).logits(TEXTS), expected, atol=1e-5)
    turned = opened(classifier, labels=LABELS[::-1])
    assert torch.allclose(turned.logits(TEXTS), expected.flip(1), atol=1e-5) and turned.labels == LABELS[::-1]
    assert not torch.allclose(expected, expected.flip(1), atol=0.1)


def test_pickled_weights_are_read_by_the_restricted_loader(classifier: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(classifier, tmp_path / "pickled")
    expected = opened(classifier).logits(TEXTS)
    (folder / "model.safetensors").unlink()
    torch.save(BertForSequenceClassification.from_pretrained(classifier).state_dict(), folder / "pytorch_model.bin")
    assert opened(folder).logits(TEXTS).equal(expected)
    torch.save({"weights": expected, "code": SimpleNamespace()}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"it holds the global types.SimpleNamespace; only tensors are read"):
        opened(folder)


def test_a_label_that_the_teacher_lacks_is_named(tiny_bert: Path, tmp_path: Path) -> None:
    build(tmp_path / "plain", tiny_bert, ("LABEL_0", "LABEL_1", "体育"))
    with pytest.raises(UserError) as error:
        opened(tmp_path / "plain")
    assert "this teacher has no label 财经, 科技, which the data has" in str(error.value)
    assert "its other labels: LABEL_0, LABEL_1" in str(error.value) and "--teacher_labels FILE" in str(error.value)


def test_labels_are_renamed_merged_and_dropped(
    tiny_bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 足球 and 篮球, both 体育, the probabilities are added; 游戏 is left out, once said."""
    build(tmp_path / "other", tiny_bert, ("足球", "游戏", "财经", "篮球", "tech"))
    caplog.set_level("INFO", "distill")
    teacher = resolve(tmp_path / "other", {"足球": "体育", "篮球": "体育", "tech": "科技"})
    assert teacher.labels() == ("体育", "游戏", "财经", "科技")
    assert isinstance(teacher, ModelTeacher)
    model = teacher.classifier(task())
    teacher.classifier(task())
    model.model.bf16 = False  # type: ignore[assignment]
    raw = model.model.classifier(**AutoTokenizer.from_pretrained(tmp_path / "other")(TEXTS[0], return_tensors="pt"))
    p = raw.logits[0].softmax(0)
    wanted = torch.stack([p[0] + p[3], p[2], p[4]])
    assert torch.allclose(model.logits(TEXTS[:1]).softmax(1)[0], wanted / wanted.sum(), atol=1e-5)
    assert caplog.text.count("labels that the data does not have: 游戏; their probability is left out") == 1


def test_vectors_are_means_of_the_last_layer(classifier: Path) -> None:
    model = opened(classifier)
    states = model.model.classifier.bert(  # type: ignore[union-attr, operator]
        **AutoTokenizer.from_pretrained(classifier)("手", return_tensors="pt")
    ).last_hidden_state[0]
    rows = model.logits_and_vectors(["手", TEXTS[0]])
    assert rows.shape == (2, 3 + 32) and torch.allclose(rows[0, 3:].float(), states.mean(0), atol=2e-3)
    assert model.vectors(["手"]).shape == (1, 2, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "this model gives several labels per text"),
        ({"auto_map": {"AutoModel": "code.py"}}, "asks for Python code of its own"),
        (
            {"id2label": {"0": "体育"}, "label2id": {"体育": 0}, "problem_type": "regression"},
            r"the weights do not fit the config|this model has a single output",
        ),
        ({"model_type": "nothing"}, "has no model type nothing"),
    ],
)
def test_models_that_cannot_teach(change: dict[str, Any], message: str, classifier: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(classifier, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **change}), "utf-8")
    with pytest.raises(UserError, match=message):
        opened(folder)


def test_an_encoder_without_a_classifier_is_refused(tiny_bert: Path) -> None:
    with pytest.raises(UserError, match=r"these weights have no classifier \(classifier.bias, .*--teacher_model"):
        opened(tiny_bert)


def test_what_is_no_teacher(tmp_path: Path, classifier: Path) -> None:
    shutil.copytree(classifier, tmp_path / "out" / "checkpoint-500")
    with pytest.raises(UserError, match=r"holds some: checkpoint-500 -> --teacher .*/checkpoint-500"):
        resolve(tmp_path / "out", {})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no trained teacher; found: nothing"):
        resolve(tmp_path / "empty", {})
    for nowhere in (
        tmp_path / "nowhere",
        f"{tmp_path}/answers.csv",
        "answers.csv",
        "tests/nowhere",
        "ans.cvs",
        "answers.jsonlines",
    ):
        with pytest.raises(UserError, match="no such file or folder -> check the path; a teacher is a folder that"):
            resolve(nowhere, {})


@pytest.mark.parametrize("value", ["runz", "no-such/classifier", "no-such/classifier@v1.0"])
def test_a_name_that_is_nowhere_is_an_error(
    value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be a mistyped path, so the message names both, and the Hub is named before it is asked."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    caplog.set_level("INFO", "distill")
    teacher = resolve(value, {})
    assert f"--teacher {value}: no file or folder here has this name; it is loaded from the Hugging" in caplog.text
    message = f"{value}: no such file or folder here, and the Hub cannot be reached -> --teacher with a Hub id"
    for ask in (teacher.fingerprints, teacher.labels, lambda: teacher.open(task())):
        with pytest.raises(UserError, match=message):
            ask()


def test_a_model_that_the_hub_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error of huggingface_hub is made from an answer of a server, which has no such model."""

    class NotFound(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:  # a request for a file's properties
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        template = f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(transformers_checkpoint, "_accepts_connections", lambda url: True)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        with pytest.raises(UserError, match="runz: no such file or folder here, and no such model on the Hub"):
            resolve("runz", {}).labels()
        server.shutdown()


def test_a_hub_teacher_is_identified_by_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def config(name: str, **options: Any) -> Any:
        asked.append((name, options.get("revision")))
        return SimpleNamespace(_commit_hash="a1b2", id2label={0: "体育", 1: "财经"})

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", config)
    teacher = resolve("one/model@v2", {})
    assert teacher.fingerprints() == {"hub": "one/model@v2", "revision": "a1b2"}
    assert teacher.labels() == ("体育", "财经") and set(asked) == {("one/model", "v2")}


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "spiece.model", "vocab.txt"])
def test_every_file_that_may_decide_an_answer_is_fingerprinted(name: str, classifier: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(classifier, tmp_path / "copy")
    before = resolve(folder, {}).fingerprints()
    (folder / name).write_text('{"do_lower_case": false}', "utf-8")
    assert resolve(folder, {}).fingerprints() != before


@pytest.mark.parametrize(("first", "is_valid"), [(0, True), (1, False)])
def test_labels_are_numbered_from_0(first: int, is_valid: bool, classifier: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(classifier, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    id2label = {str(number): label for number, label in enumerate(LABELS, first)}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": id2label}), "utf-8")
    teacher = resolve(folder, {})
    if is_valid:
        assert teacher.labels() == LABELS
    else:
        with pytest.raises(UserError, match=r"id2label of its config numbers the labels 1, 2, 3 -> number them 0 to 2"):
            teacher.labels()
        with pytest.raises(UserError, match="id2label"):
            teacher.open(task())


def test_a_hub_without_a_network_is_found_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub would try again for half a minute; a proxy is asked instead of the Hub where there is one."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        open_port = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", open_port)
        assert not transformers_checkpoint._hub_options("one/model")["local_files_only"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed_port = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", closed_port)
    options = {"local_files_only": True, "trust_remote_code": False}
    assert transformers_checkpoint._hub_options("one/model") == options
    assert transformers_checkpoint._hub_options("one/model@v2") == {**options, "revision": "v2"}
    monkeypatch.setenv("http_proxy", open_port)
    assert not transformers_checkpoint._hub_options("one/model")["local_files_only"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert transformers_checkpoint._hub_options("one/model")["local_files_only"]


def test_it_teaches_a_student_from_the_command_line(
    classifier: Path, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole run: no teacher is trained, the report has its row, and a second run keeps everything."""
    flags = [*tiny_flags, "--run", str(tmp_path), "--teacher", str(classifier), "--vectors", "teacher+none"]
    flags += ["--vector_width", "5", "--objective", "logits+hint", "--student_epochs", "15"]
    output = output_of(capsys, flags)
    assert not (tmp_path / "teacher").exists() and "teacher logits and vectors: " in output
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert [row["name"] for row in report["rows"]] == ["teacher", "student_alone", "student"]
    teacher, _, student = report["rows"]
    assert teacher["accuracy"] > 0.8 and student["accuracy"] > 0.6 and student["kept"] and teacher["speedup"] == 1
    assert "fine-tuned" in (tmp_path / "student" / "README.md").read_text("utf-8")
    again = output_of(capsys, [*flags, "--mode", "train_student"])
    assert again.count("kept, it was trained with the same data and settings") == 1
    assert main([*flags, "--mode", "compare", "--objectives", "logits", "--student_epochs", "1"]) == 0
    assert "teacher" in (tmp_path / "compare" / "compare.md").read_text("utf-8")
