"""Checkpoints as people have them: which are read, whether the encoder is the same, and which are refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import output_of
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AlbertConfig, BertConfig, BertForMaskedLM, BertModel, DebertaV2Config, RobertaConfig

from distill.config import TeacherSettings
from distill.errors import UserError
from distill.models.pretrained import resolve
from distill.models.teacher import build, load_teacher_parts, save_teacher
from distill.progress import reminders

WEIGHTS, PICKLE = "model.safetensors", "pytorch_model.bin"
LAYER = "encoder.layer.1.attention.self.query.weight"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture
def folder(tiny_bert: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint with the three files of the reference repo's kind: weights, config, vocab.txt."""
    path = tmp_path / "mine"
    path.mkdir()
    for name in (WEIGHTS, "config.json", "vocab.txt"):
        shutil.copy(tiny_bert / name, path)
    return path


def tensors_in(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS)


def rename(folder: Path, change: Callable[[str], str]) -> None:
    tensors = {change(name): tensor.clone() for name, tensor in tensors_in(folder).items()}
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def edit_config(folder: Path, name: str = "config.json", **changes: Any) -> None:
    path = folder / name
    config = {**(json.loads(path.read_text("utf-8")) if path.exists() else {}), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), "utf-8")


def to_pickle(folder: Path, content: Any = None, **options: Any) -> None:
    """Replace the safetensors by a pickle of PyTorch."""
    content = tensors_in(folder) if content is None else content
    (folder / WEIGHTS).unlink()
    torch.save(content, folder / PICKLE, **options)


def google_config(folder: Path) -> None:
    (folder / "config.json").rename(folder / "bert_config.json")
    edit_config(folder, "bert_config.json", model_type=None, architectures=None)


def shard(folder: Path, kind: str) -> None:
    """Split the weights into two files with an index."""
    names, tensors = sorted(tensors_in(folder)), tensors_in(folder)
    stem, ending = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    weight_map = {}
    for number, part in enumerate((names[:20], names[20:]), 1):
        file = f"{stem}-0000{number}-of-00002.{ending}"
        weight_map |= dict.fromkeys(part, file)
        shares = {name: tensors[name].clone() for name in part}
        save_file(shares, folder / file) if kind == "safetensors" else torch.save(shares, folder / file)
    (folder / WEIGHTS).unlink()
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"weight_map": weight_map}), "utf-8")


def masked_language_model(folder: Path) -> None:
    """The checkpoint of a model with a head, whose output weights are the embeddings: one memory, two names."""
    model = BertForMaskedLM(BertConfig.from_pretrained(folder))
    model.bert.load_state_dict(tensors_in(folder), strict=False)
    to_pickle(folder, model.state_dict())


def old_layer_norms(folder: Path) -> None:
    rename(
        folder, lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    )


def two_models(folder: Path) -> None:
    """The encoder, and a part of another one under a shorter prefix."""
    tensors = tensors_in(folder)
    encoder = {f"query.encoder.{name}": tensor for name, tensor in tensors.items()}
    save_file({**encoder, f"tiny.{LAYER}": torch.zeros_like(tensors[LAYER])}, folder / WEIGHTS)


READ: dict[str, Callable[[Path], None]] = {
    "three files": lambda folder: None,
    "pickle": to_pickle,
    "old pickle": lambda folder: to_pickle(folder, _use_new_zipfile_serialization=False),
    "pickle of a training": lambda folder: to_pickle(folder, {"epoch": 3, "model": tensors_in(folder)}),
    "pickle, Google's config": lambda folder: (to_pickle(folder), google_config(folder))[0],
    "shards": lambda folder: shard(folder, "safetensors"),
    "shards of a pickle": lambda folder: shard(folder, "pickle"),
    "head": masked_language_model,
    "old layer norms": old_layer_norms,
    "two models": two_models,
    "half precision": lambda folder: save_file({n: t.half() for n, t in tensors_in(folder).items()}, folder / WEIGHTS),
    **{
        f"prefix {prefix}": lambda folder, prefix=prefix: rename(folder, lambda name: prefix + name)  # type: ignore[misc]
        for prefix in ("module.", "model.", "bert.", "module.bert.", "model.encoder.")
    },
}


def encoder_of(source: str | Path) -> dict[str, Tensor]:
    """The weights of the teacher's encoder, with those of its new classifier."""
    torch.manual_seed(0)
    return build(str(source), TeacherSettings(), 3)[0].state_dict()


@pytest.mark.parametrize("form", READ)
def test_every_form_gives_the_same_encoder(form: str, folder: Path, tiny_bert: Path) -> None:
    READ[form](folder)
    expected = encoder_of(tiny_bert)
    for _ in range(2):  # the second time from the converted file, if there is one
        encoder = encoder_of(resolve(str(folder)).source)
        assert encoder.keys() == expected.keys()
        for name in set(expected) - ({"head.weight", "head.bias"} if form == "head" else set()):
            tensor = encoder[name]  # a new pooler, which is then dropped, draws numbers before the classifier does
            assert torch.allclose(tensor, expected[name], atol=1e-3 if form == "half precision" else 0.0), name


def test_a_saved_teacher_with_old_names_loads(folder: Path, tmp_path: Path) -> None:
    old_layer_norms(folder)
    model, tokenizer = build(str(folder), TeacherSettings(), 2)
    save_teacher(tmp_path / "teacher", model, tokenizer, ["甲", "乙"])
    loaded = load_teacher_parts(tmp_path / "teacher")[0].state_dict()
    assert all(loaded[name].equal(tensor) for name, tensor in model.state_dict().items())


class TestConversion:
    """pytorch_model.bin becomes model.safetensors."""

    def test_once(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "distill")
        expected = tensors_in(folder)
        to_pickle(folder)
        first = resolve(str(folder))
        assert first.written == (folder / WEIGHTS,)
        assert (
            "pytorch_model.bin was read with PyTorch's restricted loader and converted to model.safetensors"
            in caplog.text
        )
        assert all(tensor.equal(expected[name]) for name, tensor in tensors_in(folder).items())
        modified = (folder / WEIGHTS).stat().st_mtime_ns
        second = resolve(str(folder))
        assert second.written == () and (folder / WEIGHTS).stat().st_mtime_ns == modified
        assert second.fingerprint == first.fingerprint
        assert second.reason.endswith(
            "pytorch_model.bin is not read, because there is a model.safetensors that was made from it"
        )
        assert {path.name for path in folder.iterdir()} == {WEIGHTS, PICKLE, "config.json", "vocab.txt"}

    def test_again_when_the_pickle_changes(self, folder: Path) -> None:
        tensors = tensors_in(folder)
        to_pickle(folder)
        resolve(str(folder))
        torch.save({name: tensor + 1 for name, tensor in tensors.items()}, folder / PICKLE)
        again = resolve(str(folder))
        assert "pytorch_model.bin has changed since it was converted" in again.reason
        assert all(tensor.equal(tensors[name] + 1) for name, tensor in tensors_in(folder).items())

    def test_the_users_own_safetensors_are_kept(self, folder: Path) -> None:
        before = (folder / WEIGHTS).read_bytes()
        torch.save({"other": torch.zeros(1)}, folder / PICKLE)
        reason = resolve(str(folder)).reason
        assert reason.endswith("; pytorch_model.bin is not read, because there is a model.safetensors")
        assert (folder / WEIGHTS).read_bytes() == before
        cut(folder)
        with pytest.raises(UserError, match=r"download this file again, or delete it, and pytorch_model.bin is read"):
            build(str(folder), TeacherSettings(), 2)

    def test_a_folder_that_cannot_be_written(
        self, folder: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "distill")
        to_pickle(folder)

        def refuse(path: Path, content: bytes) -> Path:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr("distill.models.pretrained.write_file", refuse)
        weights = resolve(str(folder))
        assert "pytorch_model.bin is read at every start, because this folder cannot be written" in caplog.text
        assert weights.written == () and not (folder / WEIGHTS).exists()
        assert encoder_of(weights.source)["head.weight"].equal(encoder_of(tiny_bert)["head.weight"])
        torch.save({}, folder / PICKLE)
        with pytest.raises(UserError, match="it holds no dictionary of tensors"):
            resolve(str(folder))


class Attack:
    """Runs a shell command when an unrestricted loader unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def attack(folder: Path, save: Callable[[Any, Path], None]) -> None:
    tensors = tensors_in(folder)
    (folder / WEIGHTS).unlink()
    save({**tensors, "attack": Attack()}, folder / PICKLE)


def plain_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def old_format(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def replace_weights(folder: Path, name: str, content: bytes = b"1234") -> None:
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(content)


def cut(folder: Path, name: str = WEIGHTS, share: float = 0.6) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])


def flip(path: Path, before: bytes, byte: bytes) -> None:
    """Change the byte that follows ``before``."""
    content = path.read_bytes()
    place = content.index(before) + len(before)
    path.write_bytes(content[:place] + byte + content[place + 1 :])


def without(folder: Path, part: str) -> None:
    save_file({name: t.clone() for name, t in tensors_in(folder).items() if part not in name}, folder / WEIGHTS)


def nan_in(folder: Path, name: str) -> None:
    tensors = tensors_in(folder)
    tensors[name][0] = torch.nan
    save_file(tensors, folder / WEIGHTS)


def other_type(folder: Path, config: Any) -> None:
    (folder / "config.json").write_text(config.to_json_string(), "utf-8")


def custom_code(folder: Path, name: str, **changes: Any) -> None:
    (folder / "custom.py").write_text("open('executed', 'w')\nclass Custom: ...\n", "utf-8")
    edit_config(folder, name, **changes)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "more layers in the config": (
        lambda f: edit_config(f, num_hidden_layers=4),
        r"32 of the encoder's 69 tensors are not in the weights: encoder.layer.2.attention.self.query.weight, .* and "
        r"29 more. The config has 4 layers \(num_hidden_layers\), the weights have 2 -> set \"num_hidden_layers\": 2",
    ),
    "another width": (
        lambda f: edit_config(f, hidden_size=64),
        r"word_embeddings.weight is \d+ x 32 in the file, \d+ x 64 expected, .* The config says .*hidden_size 64",
    ),
    "a tensor is missing": (
        lambda f: without(f, LAYER),
        f"1 of the encoder's 37 .*: {LAYER}. The weights are probably incomplete",
    ),
    "other tensors": (
        lambda f: save_file({"wte": torch.zeros(1)}, f / WEIGHTS),
        r"37 of the encoder's 37 tensors .* another model's than bert: they hold wte",
    ),
    "the embeddings are missing": (lambda f: without(f, "word_emb"), "embeddings.word_embeddings.weight.* incomplete"),
    "albert's config": (
        lambda f: other_type(f, AlbertConfig(**SIZES, embedding_size=32)),
        r"are not in the weights: encoder.embedding_hidden_mapping_in.weight, .* The weights "
        r"are probably another model's than albert: they hold encoder.layer.0.attention",
    ),
    "roberta's config": (
        lambda f: (rename(f, lambda name: f"bert.{name}"), edit_config(f, model_type="roberta")),
        "the tensors' names start with bert., but the config has model_type roberta",
    ),
    "roberta's own config": (lambda f: other_type(f, RobertaConfig()), "the weights do not fit the config: .*word_emb"),
    "roberta's tokenizer": (
        lambda f: edit_config(f, model_type="roberta"),
        r"there is no vocabulary for its tokenizer \(RobertaTokenizer, model_type roberta\) -> a vocab.txt belongs",
    ),
    "DeBERTa's config": (
        lambda f: other_type(f, DebertaV2Config(vocab_size=68, max_position_embeddings=40, type_vocab_size=2, **SIZES)),
        r"attention.self.query_proj.weight, .* another model's than deberta-v2: they hold encoder.layer.0.attention",
    ),
    "an unknown type": (lambda f: edit_config(f, model_type="nezha"), "has no model type nezha"),
    "no type": (
        lambda f: edit_config(f, model_type=None, hidden_size=None),
        "no model_type, and its keys are not BERT's",
    ),
    "broken config": (lambda f: cut(f, "config.json"), "config.json: not valid JSON"),
    "truncated": (cut, "model.safetensors: truncated, or not a safetensors file.* -> download this file again"),
    "truncated pickle": (
        lambda f: (to_pickle(f), cut(f, PICKLE)),
        "pytorch_model.bin: truncated, or not a file that torch",
    ),
    "truncated old pickle": (
        lambda f: (to_pickle(f, _use_new_zipfile_serialization=False), cut(f, PICKLE)),
        "pytorch_model.bin: truncated, or not a file that torch.save wrote: unexpected EOF",
    ),
    "damaged pickle": (
        lambda f: (to_pickle(f), flip(f / PICKLE, b"\x80\x02", b"\x95")),
        "pytorch_model.bin: truncated, or not a file that torch.save wrote ->",
    ),
    "empty": (lambda f: (f / WEIGHTS).write_bytes(b""), "model.safetensors: this file is empty"),
    "pointer": (
        lambda f: (f / WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        "model.safetensors: a pointer of Git LFS, not the weights -> git lfs pull",
    ),
    "web page": (
        lambda f: replace_weights(f, PICKLE, b"<!DOCTYPE html><html>"),
        "pytorch_model.bin: a web page, not the weights",
    ),
    "missing shard": (
        lambda f: (shard(f, "pickle"), (f / "pytorch_model-00002-of-00002.bin").unlink()),
        "1 of 2 shards of the weights are missing: pytorch_model-00002-of-00002.bin",
    ),
    "shard elsewhere": (
        lambda f: replace_weights(f, f"{PICKLE}.index.json", b'{"weight_map": {"a": "../../secret.bin"}}'),
        "a shard must be a file of the same folder, this is ../../secret.bin",
    ),
    "forbidden global": (lambda f: attack(f, torch.save), r"it holds the global \w+\.system; only tensors are read"),
    "forbidden global, old": (lambda f: attack(f, old_format), r"it holds the global \w+\.system"),
    "forbidden global, pickle": (lambda f: attack(f, plain_pickle), r"it holds the global .*\w+\.system"),
    "a pickled model": (
        lambda f: to_pickle(f, BertModel(BertConfig(**SIZES))),
        r"the global transformers\.\S+BertModel",
    ),
    "NaN": (lambda f: nan_in(f, LAYER), f"some weights are NaN or infinite, in {LAYER}"),
    "longer vocabulary": (
        lambda f: (f / "vocab.txt").write_text((f / "vocab.txt").read_text("utf-8") + "\n新1\n新2\n", "utf-8"),
        r"the tokenizer has \d+ word pieces, but the embedding table has \d+ rows -> use the tokenizer",
    ),
    "code of the model": (
        lambda f: custom_code(f, "config.json", auto_map={"AutoModel": "custom.Custom"}),
        r"config.json asks for Python code of its own \(auto_map\), and downloaded code is not run",
    ),
    "code of an unknown model": (
        lambda f: custom_code(f, "config.json", model_type="my", auto_map={"AutoConfig": "custom.Custom"}),
        r"config.json asks for Python code of its own",
    ),
    "code of the tokenizer": (
        lambda f: custom_code(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["custom.Custom", None]}),
        r"tokenizer_config.json asks for Python code of its own",
    ),
    "Keras": (lambda f: replace_weights(f, "tf_model.h5"), r"the weights are for TensorFlow \(tf_model.h5\).*download"),
    "Google's checkpoint": (
        lambda f: (google_config(f), replace_weights(f, "bert_model.ckpt.index")),
        r"for TensorFlow \(bert_model.ckpt.index\), but PyTorch's are needed -> download model.safetensors",
    ),
    "ONNX": (lambda f: replace_weights(f, "model.onnx"), r"the weights are for ONNX \(model.onnx\)"),
    "Flax": (lambda f: replace_weights(f, "flax_model.msgpack"), r"the weights are for Flax"),
    "another name": (
        lambda f: replace_weights(f, "bert.pth"),
        "if bert.pth holds the weights, rename it to pytorch_model.bin",
    ),
    "no config": (
        lambda f: (f / "config.json").unlink(),
        "not a checkpoint: config.json missing, there is model.safetensors",
    ),
    "nothing": (lambda f: [path.unlink() for path in f.iterdir()], "there is nothing -> download model.safetensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_and_why(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage, message = REFUSED[case]
    damage(folder)
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UserError, match=message) as error:
        encoder_of(resolve(str(folder)).source)
    assert str(folder) in str(error.value) and "\n" not in str(error.value)
    assert not list(folder.parent.rglob("executed")), "code of the checkpoint was run"
    assert not list(folder.glob(".*")), "a temporary file was left"


def test_unused_layers_and_stripped_prefixes_are_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "distill")
    edit_config(folder, num_hidden_layers=1)
    rename(folder, lambda name: f"module.bert.{name}")
    assert build(str(folder), TeacherSettings(), 2)[0].encoder.config.num_hidden_layers == 1  # type: ignore[union-attr]
    assert "the prefix module.bert. is stripped from the tensors' names" in caplog.text
    assert "layers of the weights that the config does not have, and that are not used: 1" in caplog.text


def test_other_positions_than_the_tokenizer_expects_are_reported(tiny_bert: Path, folder: Path) -> None:
    """The config of a Chinese RoBERTa, which is a BERT, names the type roberta by mistake."""
    shutil.copytree(tiny_bert, folder, dirs_exist_ok=True)
    edit_config(folder, model_type="roberta", pad_token_id=1)
    reminders.clear()
    build(str(folder), TeacherSettings(), 2)
    assert [text for text in reminders if "so the positions are wrong" in text and "model_type bert" in text]


def test_an_empty_line_in_the_vocabulary_is_no_word_piece(folder: Path) -> None:
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text("utf-8") + "\n\n\n", "utf-8")
    assert build(str(folder), TeacherSettings(), 2)


def test_a_shorter_vocabulary_is_no_error(folder: Path) -> None:
    pieces = (folder / "vocab.txt").read_text("utf-8").splitlines()
    (folder / "vocab.txt").write_text("\n".join(pieces[:-5]), "utf-8")
    model, tokenizer = build(str(folder), TeacherSettings(), 2)
    assert len(tokenizer.tokenizer) == len(model.embedding_table()) - 5


def test_a_broken_checkpoint_of_a_saved_teacher(tiny_bert: Path, tmp_path: Path) -> None:
    model, tokenizer = build(str(tiny_bert), TeacherSettings(), 2)
    save_teacher(tmp_path, model, tokenizer, ["甲", "乙"])
    head = load_file(tmp_path / "head.safetensors")
    save_file({**head, "bias": torch.full_like(head["bias"], torch.nan)}, tmp_path / "head.safetensors")
    with pytest.raises(UserError, match="some weights are NaN or infinite, in bias"):
        load_teacher_parts(tmp_path)
    cut(tmp_path)
    with pytest.raises(
        UserError, match=r"this teacher is broken: truncated.* -> python distill.py --mode train_teacher"
    ):
        load_teacher_parts(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"this teacher is broken: not a checkpoint: model.safetensors .* missing"):
        load_teacher_parts(tmp_path)


@pytest.mark.parametrize("name", ["bert_config.json", "bert.pth", "bert_model.ckpt.index", "model.onnx"])
def test_auto_does_not_pass_over_a_checkpoint_that_it_cannot_read(name: str, tmp_path: Path) -> None:
    """The bundled weights are used where nobody put others, not where those are incomplete."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=name):
        resolve("auto", tmp_path)


def test_the_reference_repos_three_files_in_bert_pretrain(
    folder: Path,
    tiny_flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to_pickle(folder)
    google_config(folder)
    folder.rename(tmp_path / "bert_pretrain")
    monkeypatch.chdir(tmp_path)
    start = tiny_flags.index("--teacher_model")
    flags = [
        *tiny_flags[:start],
        *tiny_flags[start + 2 :],
        "--mode",
        "train_teacher",
        "--teacher_epochs",
        "1",
        "--run",
        "run",
    ]
    text = output_of(capsys, flags)
    assert "bert_pretrain: pytorch_model.bin was read with PyTorch's restricted loader and converted" in text
    assert "teacher's weights: bert_pretrain, found in bert_pretrain/" in text
    assert "bert_pretrain/bert_config.json: it has no model_type; its keys are BERT's, so the model is a BERT" in text
    assert "  bert_pretrain/model.safetensors\n" in text and "teacher: dev accuracy" in text
