"""The files of a checkpoint's folder: which of them are used, and what to do about one that is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from distill.errors import UserError
from distill.progress import log
from distill.storage.fingerprints import fingerprint_file, fingerprint_texts

CONFIG_FILES = ("config.json", "bert_config.json")  # the second is Google's name; the first that exists is used
SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model")
OTHER_FRAMEWORKS = {
    "*.h5": "TensorFlow",
    "*.ckpt*.index": "TensorFlow",
    "*.ckpt*.meta": "TensorFlow",
    "*.ckpt*.data-*": "TensorFlow",
    "*.msgpack": "Flax",
    "*.onnx": "ONNX",
    "onnx/*.onnx": "ONNX",
    "*.pdparams": "PaddlePaddle",
    "*.gguf": "llama.cpp",
}
OTHER_NAMES = ("*.safetensors", "*.bin", "*.pt", "*.pth")  # PyTorch's weights under a name of the user's
BERT_KEYS = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"}
SOURCE_KEY = "converted_from"  # in the metadata of a converted file: the fingerprint of the pickles
EXAMPLE = "https://huggingface.co/google-bert/bert-base-chinese"
DOWNLOAD = f"download model.safetensors (or pytorch_model.bin), config.json and vocab.txt, for example from {EXAMPLE}"


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a checkpoint's tensors.

    Args:
        paths: one file, or its shards.
        are_pickles: whether PyTorch's pickles are to be read, because there are no safetensors made from them.
        note: which files were chosen, where there was a choice; else empty.
    """

    paths: tuple[Path, ...]
    are_pickles: bool
    note: str = ""


def holds_weights(folder: Path) -> bool:
    """Whether someone put a checkpoint, or weights of any framework, directly into a folder."""
    patterns = (*CONFIG_FILES, *SAFETENSORS, *PICKLES, *OTHER_FRAMEWORKS, *OTHER_NAMES)
    return any(path.is_file() for pattern in patterns for path in folder.glob(pattern))


def has_pytorch_weights(folder: Path) -> bool:
    """Whether a folder has weights that this program reads, under the names that transformers gives them."""
    return any((folder / name).is_file() for name in (*SAFETENSORS, *PICKLES))


def config_file(folder: Path) -> Path:
    """The file with the model's sizes; it may not exist."""
    return next((folder / name for name in CONFIG_FILES if (folder / name).is_file()), folder / CONFIG_FILES[0])


def read_config(folder: Path) -> dict[str, Any]:
    """The content of the config file, with a ``model_type``.

    Raises:
        UserError: it is missing or invalid, names no model type and is not BERT's, or needs Python code of the folder.
    """
    path = config_file(folder)
    config = _read_json(path)
    for name, settings in ((path.name, config), ("tokenizer_config.json", _tokenizer_config(folder))):
        if settings.get("auto_map"):
            what = f"{name} asks for Python code of its own (auto_map), and downloaded code is not run"
            raise UserError(what, folder, "use a model that transformers knows without such code")
    if "model_type" in config:
        return config
    if config.keys() >= BERT_KEYS:
        log.info("%s: it has no model_type; its keys are BERT's, so the model is a BERT", path)
        return {**config, "model_type": "bert"}
    raise UserError(
        "it has no model_type, and its keys are not BERT's", path, 'add the type, such as "model_type": "bert"'
    )


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return _read_json(path) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"not valid JSON: {error}", path, "download this file again") from error
    if not isinstance(content, dict):
        raise UserError("a JSON object is needed", path, "download this file again")
    return content


def check_complete(folder: Path) -> None:
    """Check that a folder has a config, weights for PyTorch and a tokenizer.

    Raises:
        UserError: a file is missing, or the weights are another framework's.
    """
    has_weights = has_pytorch_weights(folder)
    missing = [] if config_file(folder).is_file() else [CONFIG_FILES[0]]
    missing += [] if has_weights else [f"{SAFETENSORS[0]} (or {PICKLES[0]})"]
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        missing.append("a tokenizer (vocab.txt or tokenizer.json)")
    if not missing:
        return
    if not has_weights:
        _refuse_other_framework(folder)
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise UserError(f"not a checkpoint: {', '.join(missing)} missing, there is {present}", folder, _hint(folder))


def _refuse_other_framework(folder: Path) -> None:
    for pattern, framework in OTHER_FRAMEWORKS.items():
        if found := sorted(str(path.relative_to(folder)) for path in folder.glob(pattern)):
            what = f"the weights are for {framework} ({', '.join(found[:3])}), but PyTorch's are needed"
            raise UserError(what, folder, f"{DOWNLOAD}; take the PyTorch files of the same model")


def _hint(folder: Path) -> str:
    """What to do about missing files: rename weights that have another name, or download."""
    if has_pytorch_weights(folder):
        return "download the missing files from the model's page"
    weights = next((path for pattern in OTHER_NAMES for path in sorted(folder.glob(pattern))), None)
    if weights is None:
        return DOWNLOAD
    name = SAFETENSORS[0] if weights.suffix == ".safetensors" else PICKLES[0]
    return f"if {weights.name} holds the weights, rename it to {name}"


def find_weights(folder: Path) -> WeightFiles:
    """The files to read the tensors from: safetensors if there are any, unless they were made from older pickles.

    Raises:
        UserError: there are none, or a shard is missing.
    """
    safetensors, pickles = (_first_group(folder, names) for names in (SAFETENSORS, PICKLES))
    if not pickles:
        return WeightFiles(safetensors, are_pickles=False)
    source = _recorded_source(safetensors)
    if not safetensors or source not in ("", source_fingerprint(pickles)):
        note = f"{pickles[0].name} has changed since it was converted" if safetensors else ""
        return WeightFiles(pickles, are_pickles=True, note=note)
    converted = " that was made from it" if source else ""
    note = f"{PICKLES[0]} is not read, because there is a {safetensors[0].name}{converted}"
    return WeightFiles(safetensors, are_pickles=False, note=note)


def source_fingerprint(pickles: Sequence[Path]) -> str:
    """Fingerprint of the pickles that a file was converted from."""
    return fingerprint_texts(fingerprint_file(path) for path in pickles)


def _recorded_source(safetensors: Sequence[Path]) -> str:
    """The fingerprint of the pickles that a safetensors file was converted from; empty if it was not."""
    if len(safetensors) != 1:
        return ""
    try:
        with safe_open(safetensors[0], framework="numpy") as file:
            return str((file.metadata() or {}).get(SOURCE_KEY, ""))
    except (SafetensorError, OSError):  # reported when the tensors are read
        return ""


def _first_group(folder: Path, names: tuple[str, str]) -> tuple[Path, ...]:
    """The single file, or the shards that its index lists; empty if neither exists."""
    single, index = (folder / name for name in names)
    if single.is_file():
        return (single,)
    return _shards(index) if index.is_file() else ()


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError("it has no weight_map, which lists the shards", index, "download this file again")
    names = sorted({str(name) for name in weight_map.values()})
    if outside := [name for name in names if Path(name).name != name]:
        raise UserError(f"a shard must be a file of the same folder, this is {outside[0]}", index, DOWNLOAD)
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        what = f"{len(missing)} of {len(names)} shards of the weights are missing: {', '.join(missing[:3])}"
        raise UserError(what, index.parent, "download the missing files from the model's page")
    return tuple(index.parent / name for name in names)
