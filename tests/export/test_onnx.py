"""ONNX files give PyTorch's logits in any batch; a failed export leaves no file."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NETWORKS, titles
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config import StudentSettings, TeacherSettings
from distill.errors import UserError, install_hint
from distill.models.build import build_student
from distill.models.checkpoint import save_student
from distill.models.teacher import build, save_teacher
from distill.models.text_classifier import load_student, load_teacher
from distill.models.textgcn import DocumentIndex, GraphTable, GraphTableConfig
from distill.models.tokenizer import WordTokenizer
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import build_vocabulary

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from distill.export.onnx import OnnxClassifier, export_student, export_teacher, files  # noqa: E402

LONG = "球队今天公布新消息，教练和冠军怎么看这么火的比赛" * 3
TEXTS = [LONG, "", "手机", "股票和基金的价格又上了头条", "🙂 iPhone 3.5%", "银行" * 40]
LABELS = ("体育", "财经", "科技")


def saved_student(folder: Path, ngrams: int = 0, **chosen: Any) -> Path:
    """A student with random weights, large enough that errors show."""
    torch.manual_seed(0)
    vocabulary = build_vocabulary([Segmenter().segment(text) for text in TEXTS], 1)
    vectors = np.random.default_rng(0).standard_normal((len(vocabulary), 10)).astype(np.float32)
    trained = build_student(StudentSettings(hidden=7, ngrams=ngrams, **chosen), vectors, vocabulary.words, len(LABELS))
    model = trained.for_inference()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for table in [model.embedding, *([model.ngrams.table] if ngrams else [])]:  # type: ignore[union-attr]
            table.weight[0] = 0  # type: ignore[union-attr, index, operator]
    folder.mkdir(parents=True)
    save_student(folder, model, WordTokenizer(vocabulary, 20, ngrams), LABELS, 1.5)
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_student(tmp_path_factory.mktemp("students") / "student", 64, **NETWORKS["bilstm"])


@pytest.fixture(scope="module")
def student_file(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return onnx_file(export_student(student, tmp_path_factory.mktemp("onnx") / "student"))


@pytest.fixture(scope="module", params=["mean", "cls"])
def teacher(request: pytest.FixtureRequest, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teachers") / "teacher"
    torch.manual_seed(1)
    model, tokenizer = build(str(tiny_bert), TeacherSettings(pooling=request.param, max_length=30), len(LABELS))
    folder.mkdir()
    save_teacher(folder, model, tokenizer, LABELS)
    return folder


def onnx_file(written: list[Path]) -> Path:
    (onnx_path,) = (path for path in written if path.suffix == ".onnx")
    return onnx_path


def in_pytorch(folder: Path, texts: list[str]) -> Any:
    """Each text's logits alone, in float32."""
    model = load_student(folder) if (folder / "student.json").is_file() else load_teacher(folder)
    model.model.bf16 = False  # type: ignore[assignment]
    return np.concatenate([model.logits([text]).numpy() for text in texts])


@pytest.mark.parametrize("ngrams", [0, 64])
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_of_a_student_in_any_batch_are_those_of_pytorch(name: str, ngrams: int, tmp_path: Path) -> None:
    folder = saved_student(tmp_path / "student", ngrams, **NETWORKS[name])
    path = onnx_file(export_student(folder, tmp_path / "onnx"))
    expected = in_pytorch(folder, TEXTS)
    assert np.ptp(expected, axis=0).min() > 0.1  # the texts differ, so a wrong order would show
    for size in (1, 2, len(TEXTS)):
        np.testing.assert_allclose(OnnxClassifier(path, batch_size=size).logits(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_bilstm_becomes_the_standard_operator_with_lengths(cell: str, tmp_path: Path) -> None:
    path = onnx_file(export_student(saved_student(tmp_path / "student", 64, cell=cell), tmp_path / "onnx"))
    model = onnx.load(path)
    (node,) = (node for node in model.graph.node if node.op_type == cell.upper())
    assert node.input[4]  # sequence_lens
    assert {entry.domain for entry in model.opset_import} == {""}
    axes = {tensor.name: [size.dim_param for size in tensor.type.tensor_type.shape.dim] for tensor in model.graph.input}
    expected = {"words": ["batch", "words_length"], "lengths": ["batch"], "ngrams": ["batch", "ngrams_length"]}
    assert axes == expected


@settings(max_examples=30)
@given(st.lists(st.text(alphabet="球队今天公布新消息a1 ，🙂", max_size=30), min_size=1, max_size=9), st.integers(1, 4))
def test_any_texts_in_any_batches(student: Path, student_file: Path, texts: list[str], size: int) -> None:
    logits = OnnxClassifier(student_file, batch_size=size).logits(texts)
    np.testing.assert_allclose(logits, in_pytorch(student, texts), atol=1e-5)


def test_the_classifier(student: Path, student_file: Path) -> None:
    model = OnnxClassifier(student_file, threads=2)
    assert model.predict(TEXTS) == load_student(student).predict(TEXTS)
    assert model.predict([]) == [] and model.logits([]).shape == (0, 3)
    assert model.labels == LABELS and model.temperature == 1.5
    for wrong in ("一个字符串", [1, 2]):
        with pytest.raises(UserError, match="texts must be a list of strings"):
            model.predict(wrong)  # type: ignore[arg-type]


def test_the_card_of_a_student(student: Path, student_file: Path) -> None:
    names = {path.name for path in student_file.parent.iterdir()}
    assert names == {"student.onnx", "student.onnx.json", "vocabulary.txt"}
    card = json.loads(student_file.with_name("student.onnx.json").read_text("utf-8"))
    assert list(card["inputs"]) == ["words", "lengths", "ngrams"] and card["labels"] == list(LABELS)
    trained_with = json.loads((student / "student.json").read_text("utf-8"))["segmenter"]
    assert (card["ngrams"], card["max_length"], card["segmenter"]) == (64, 20, trained_with)


def test_another_segmenter_gives_a_warning(student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = shutil.copytree(student, tmp_path / "student")
    card = json.loads((other / "student.json").read_text("utf-8"))
    card["segmenter"]["version"] = "0"
    (other / "student.json").write_text(json.dumps(card), "utf-8")
    path = onnx_file(export_student(other, tmp_path / "onnx"))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        OnnxClassifier(path)
    assert "words may be segmented differently" in caplog.text


def test_a_textgcn_is_refused(tmp_path: Path) -> None:
    save_student(tmp_path, GraphTable(GraphTableConfig(2, 3)), DocumentIndex((1, 2)), LABELS)
    with pytest.raises(UserError, match="a textgcn labels only the texts of its graph"):
        export_student(tmp_path, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_logits_of_a_teacher_in_any_batch_are_those_of_pytorch(teacher: Path, tmp_path: Path) -> None:
    path = onnx_file(export_teacher(teacher, tmp_path / "onnx"))
    texts = [*TEXTS, "新" * 200, "[UNK]手机"]
    expected = in_pytorch(teacher, texts)
    for size in (1, 3, len(texts)):
        np.testing.assert_allclose(OnnxClassifier(path, batch_size=size).logits(texts), expected, atol=1e-5)
    assert [tensor.name for tensor in onnx.load(path).graph.input] == ["input_ids", "attention_mask"]


def test_the_exported_tokenizer_truncates(teacher: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    path = onnx_file(export_teacher(teacher, tmp_path / "onnx"))
    card = json.loads(Path(f"{path}.json").read_text("utf-8"))
    exported = Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    assert len(exported.encode("新" * 200).ids) == card["max_length"] == 30
    assert [len(pieces.ids) for pieces in exported.encode_batch(["新", "新消息"])] == [3, 5]  # without padding
    assert exported.token_to_id("[PAD]") == card["pad_id"] and card["prefix"] == ""


def test_a_prefix_is_exported(tiny_bert: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tiny_bert, tmp_path / "bert")
    prompts = {"prompts": {"query": "今天"}, "default_prompt_name": "query"}
    (source / "config_sentence_transformers.json").write_text(json.dumps(prompts), "utf-8")
    model, tokenizer = build(str(source), TeacherSettings(), len(LABELS))
    (tmp_path / "teacher").mkdir()
    save_teacher(tmp_path / "teacher", model, tokenizer, LABELS)
    path = onnx_file(export_teacher(tmp_path / "teacher", tmp_path / "onnx"))
    np.testing.assert_allclose(OnnxClassifier(path).logits(TEXTS), in_pytorch(tmp_path / "teacher", TEXTS), atol=1e-5)


def test_an_int8_teacher_agrees_roughly(teacher: Path, tmp_path: Path) -> None:
    float32 = onnx_file(export_teacher(teacher, tmp_path / "onnx"))
    int8 = onnx_file(export_teacher(teacher, tmp_path / "int8", int8=True))
    names = {path.name for path in int8.parent.iterdir()}
    assert names == {"teacher-int8.onnx", "teacher-int8.onnx.json", "tokenizer.json"}
    kinds = [part.data_type for part in onnx.load(int8).graph.initializer if len(part.dims) == 2]
    assert set(kinds) == {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}  # matrix products; embedding tables
    assert kinds.count(onnx.TensorProto.INT8) >= 12  # 6 per layer
    assert int8.stat().st_size < float32.stat().st_size
    expected, actual = in_pytorch(teacher, TEXTS), OnnxClassifier(int8).logits(TEXTS)
    assert 0 < np.abs(actual - expected).max() < 0.1 * np.ptp(expected)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(
    package: str, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"need the package {package}:") as error:
        export_student(student, tmp_path / "onnx")
    assert error.value.hint == install_hint("onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_logits_is_not_written(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export_student(student, tmp_path / "onnx")
    before = [path.read_bytes() for path in exported]
    monkeypatch.setattr(OnnxClassifier, "logits", lambda self, texts: np.full((len(texts), 3), np.nan))
    with pytest.raises(UserError, match="logits differ from PyTorch's by nan; nothing was written"):
        export_student(student, tmp_path / "onnx")
    monkeypatch.setattr(
        OnnxClassifier, "logits", lambda self, texts: load_student(student).logits(texts).numpy() + 0.01
    )
    with pytest.raises(UserError, match=r"logits differ from PyTorch's by 0\.01"):
        export_student(student, tmp_path / "onnx")
    assert [path.read_bytes() for path in exported] == before and len(list(tmp_path.iterdir())) == 1


def test_a_model_that_cannot_be_traced(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise torch.onnx.errors.UnsupportedOperatorError("aten::odd", 17, None)

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(UserError, match=r"PyTorch cannot write this model as ONNX: .*aten::odd"):
        export_teacher(teacher, tmp_path / "onnx")


def test_a_slow_tokenizer_is_refused(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = files.load_teacher_parts

    def with_slow_tokenizer(folder: Path) -> Any:
        model, tokenizer, labels, thresholds = load(folder)
        slow = type("Slow", (), {"unk_token": "[UNK]", "pad_token_id": 0})()
        return model, type(tokenizer)(slow, tokenizer.prefix, tokenizer.max_length), labels, thresholds

    monkeypatch.setattr(files, "load_teacher_parts", with_slow_tokenizer)
    with pytest.raises(UserError, match=r"its tokenizer has no tokenizer\.json"):
        export_teacher(teacher, tmp_path / "onnx")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("student.onnx", "no protobuf", "onnxruntime cannot load this file"),
        ("student.onnx", None, "onnxruntime cannot load this file"),
        ("student.onnx.json", "{", "this metadata file is broken"),
        ("student.onnx.json", "{}", "this metadata file is broken: KeyError\\('labels'"),
        (
            "student.onnx.json",
            '{"kind": "odd", "labels": [], "temperature": 1}',
            "this metadata file is broken: KeyError\\('odd'",
        ),
        ("student.onnx.json", None, "student.onnx.json: a file that belongs to the ONNX file cannot be read"),
        ("vocabulary.txt", None, "vocabulary.txt: a file that belongs to the ONNX file cannot be read"),
    ],
)
def test_a_damaged_folder(name: str, content: str | None, message: str, student_file: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(student_file.parent, tmp_path / "onnx")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content, "utf-8")
    with pytest.raises(UserError) as error:
        OnnxClassifier(folder / "student.onnx")
    assert re.search(message, str(error.value))


def test_a_damaged_tokenizer(teacher: Path, tmp_path: Path) -> None:
    path = onnx_file(export_teacher(teacher, tmp_path / "onnx"))
    path.with_name("tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(UserError, match="this tokenizer is broken"):
        OnnxClassifier(path)


def test_the_exporter_is_quiet(
    teacher: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (None, "distill"):  # another test may have run the command, whose handlers print our messages
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
    with warnings.catch_warnings(record=True) as shown:
        export_teacher(teacher, tmp_path / "onnx", int8=True)
        export_student(saved_student(tmp_path / "student"), tmp_path / "onnx")
    assert capfd.readouterr() == ("", "") and not shown
    assert logging.getLogger().handlers == []


def test_a_student_that_gives_any_number_of_labels(several: Path, tmp_path: Path) -> None:
    exported = OnnxClassifier(onnx_file(export_student(several, tmp_path / "onnx")))
    student, texts = load_student(several), [text for text, _ in titles(0, 60)]
    assert exported.thresholds == student.thresholds
    np.testing.assert_allclose(exported.predict_proba(texts), student.predict_proba(texts), atol=1e-5)
    assert exported.predict(texts) == student.predict(texts)
    assert {len(labels) for labels in exported.predict(texts)} >= {0, 1, 2}


def test_a_teacher_that_gives_any_number_of_labels(tiny_bert: Path, tmp_path: Path) -> None:
    model, tokenizer = build(str(tiny_bert), TeacherSettings(max_length=30), len(LABELS))
    (tmp_path / "teacher").mkdir()
    save_teacher(tmp_path / "teacher", model, tokenizer, LABELS, (1, 0, 1))
    exported = OnnxClassifier(onnx_file(export_teacher(tmp_path / "teacher", tmp_path / "onnx")))
    assert exported.predict(TEXTS[:2]) == [["财经"], ["财经"]]


def test_probabilities_of_one_label_are_those_of_pytorch(student: Path, student_file: Path) -> None:
    exported = OnnxClassifier(student_file)
    assert exported.thresholds == () and "thresholds" not in exported.card
    np.testing.assert_allclose(exported.predict_proba(TEXTS), load_student(student).predict_proba(TEXTS), atol=1e-5)


def test_a_student_of_several_tasks(of_tasks: Path, tmp_path: Path) -> None:
    exported = OnnxClassifier(onnx_file(export_student(of_tasks, tmp_path / "onnx")))
    student, texts = load_student(of_tasks), [text for text, _ in titles(0, 60)]
    assert exported.tasks == student.tasks and exported.thresholds == ()
    assert exported.predict(texts) == student.predict(texts)
    for name, probabilities in exported.predict_proba(texts).items():
        np.testing.assert_allclose(probabilities, student.predict_proba(texts)[name], atol=1e-5)
