"""The tensors of a checkpoint: reading them from files, and checking that a model got all of its own.

Pickles are read with PyTorch's restricted loader only, which runs no code of the file.
"""

from __future__ import annotations

import contextlib
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from distill.errors import UserError, listed
from distill.models.pretrained.checkpoint_files import PICKLES, SOURCE_KEY, WeightFiles, source_fingerprint

NOT_USED = {"pooler", "cls", "classifier", "lm_head"}  # the teacher has a pooling and a classifier of its own
MAX_LISTED = 3
AGAIN = "download this file again"
OWN_CONFIG = "use the config.json that was published with these weights"
LFS_POINTER = b"version https://git-lfs"
Shape = tuple[int, ...]


def read_tensors(weights: WeightFiles) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, those of all shards together.

    Raises:
        UserError: a file is truncated, is something else, or is a pickle that holds more than tensors.
    """
    read = _read_pickle if weights.are_pickles else _read_safetensors
    return {name: tensor for path in weights.paths for name, tensor in read(path).items()}


def to_safetensors(pickles: Sequence[Path]) -> bytes:
    """The content of a safetensors file with the tensors of PyTorch's pickles; it records what it was made from.

    Raises:
        UserError: as for :func:`read_tensors`.
    """
    tensors = read_tensors(WeightFiles(tuple(pickles), are_pickles=True))
    separate = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}  # tied tensors share memory
    return save(separate, {"format": "pt", SOURCE_KEY: source_fingerprint(pickles)})


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    _check_file(path)
    try:
        return load_file(path)
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        other = f", or delete it, and {PICKLES[0]} is read" if path.with_name(PICKLES[0]).is_file() else ""
        raise UserError(f"truncated, or not a safetensors file: {error}", path, f"{AGAIN}{other}") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    _check_file(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _forbidden_content(path, str(error)) from error
    except Exception as error:  # a damaged file raises errors of many types
        what = "truncated, or not a file that torch.save wrote"
        raise UserError(f"{what}: {(str(error) or 'it ends early').split('. ')[0]}", path, AGAIN) from error
    return _tensors_in(content, path)


def _check_file(path: Path) -> None:
    """Refuse what is often downloaded in place of the weights."""
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if not start:
        raise UserError("this file is empty", path, AGAIN)
    if start == LFS_POINTER:
        raise UserError("a pointer of Git LFS, not the weights", path, "git lfs pull, or download the file itself")
    if start.lstrip().lower().startswith((b"<html", b"<!doctype")):
        raise UserError("a web page, not the weights", path, "download the file itself (on the Hub: /resolve/)")


def _forbidden_content(path: Path, message: str) -> UserError:
    """The error for a pickle that the restricted loader refuses; it names the forbidden global if there is one."""
    match = re.search(r"GLOBAL (\S+)", message)
    names = [match[1]] if match else _globals_of(path)
    if not names:
        return UserError("truncated, or not a file that torch.save wrote", path, AGAIN)
    what = f"it holds the global {', '.join(names[:3])}; only tensors are read, because a pickle can run any code"
    hint = "download model.safetensors, or save the tensors alone: torch.save(model.state_dict(), FILE)"
    return UserError(what, path, hint)


def _globals_of(path: Path) -> list[str]:
    """Names of the globals in a pickle, found without running it; not those of tensors."""
    names: list[str] = []
    strings = ["", ""]
    with contextlib.suppress(Exception):  # a damaged file: the globals up to there
        for opcode, argument, _ in pickletools.genops(_pickled_bytes(path)):
            if opcode.name == "GLOBAL":
                names.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL":
                names.append(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    return [name for name in names if not name.startswith(("torch.", "collections."))]


def _pickled_bytes(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))


def _tensors_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the one state dict that a training script saved next to other things."""
    candidates = [content, *content.values()] if isinstance(content, Mapping) else []
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            tensors = {str(name): value for name, value in candidate.items() if isinstance(value, Tensor)}
            if tensors:
                return tensors
    raise UserError("it holds no dictionary of tensors", path, "write it with torch.save(model.state_dict(), FILE)")


def without_prefix(tensors: dict[str, Tensor], expected: Collection[str]) -> tuple[dict[str, Tensor], str]:
    """The tensors with the prefix stripped that most of the ``expected`` names have in the file, and that prefix.

    Wrappers put prefixes before the names: ``module.`` (DataParallel), ``bert.`` (a model with a head), ``model.``.
    """
    prefixes: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        tails = ((".".join(parts[:start]), ".".join(parts[start:])) for start in range(len(parts)))
        prefixes.update(head and f"{head}." for head, tail in tails if tail in expected)
    prefix = max(prefixes, key=lambda head: (prefixes[head], -len(head)), default="")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, prefix


@dataclass(frozen=True)
class LoadingReport:
    """What transformers found when it loaded an encoder.

    Args:
        expected: names of the encoder's parameters.
        missing: of these, those that the file lacks.
        mismatched: those with another shape: name, shape in the file, shape in the model.
        unexpected: names in the file that the encoder does not have.
    """

    expected: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[tuple[str, Shape, Shape], ...]
    unexpected: tuple[str, ...]

    @classmethod
    def of(cls, encoder: nn.Module, info: dict[str, Any], *, with_head: bool = False) -> LoadingReport:
        """The report from the encoder and transformers' ``loading_info``, by default without pooler and heads."""
        expected = tuple(name for name, _ in encoder.named_parameters() if with_head or _is_used(name))
        missing = tuple(name for name in expected if name in info["missing_keys"])
        shapes = {name: (tuple(found), tuple(wanted)) for name, found, wanted in info["mismatched_keys"]}
        mismatched = tuple((name, *shapes[name]) for name in expected if name in shapes)
        return cls(expected, missing, mismatched, tuple(sorted(info["unexpected_keys"])))

    def check(self, source: str, config: dict[str, Any]) -> None:
        """Check that every parameter was in the file, with the right shape.

        Raises:
            UserError: names the tensors, and the likely cause.
        """
        foreign, found = self._foreign(), self._layers_found()
        if self.missing and (foreign or not found):
            others = listed(foreign or self.unexpected, MAX_LISTED) or "nothing else"
            cause = f"The weights are probably another model's than {config['model_type']}: they hold {others}"
            raise UserError(f"{self._what_is_missing()} {cause}", source, OWN_CONFIG)
        if self.mismatched:
            raise UserError(f"the weights do not fit the config: {self._shapes(config)}", source, OWN_CONFIG)
        if not self.missing:
            return
        absent, last = [layer_number(name) for name in self.missing], max(found)
        if min(absent) > last:
            cause = f"The config has {max(absent)} layers (num_hidden_layers), the weights have {last}"
            hint = f'set "num_hidden_layers": {last} in the config, or use the weights that belong to it'
        else:
            cause, hint = "The weights are probably incomplete", "download all files of the model again"
        raise UserError(f"{self._what_is_missing()} {cause}", source, hint)

    def _what_is_missing(self) -> str:
        count = f"{len(self.missing)} of the encoder's {len(self.expected)} tensors"
        return f"{count} are not in the weights: {listed(self.missing, MAX_LISTED)}."

    def _foreign(self) -> list[str]:
        """Names of tensors in the file's layers that no layer of the encoder has."""
        forms = {_layer_form(name) for name in self.expected}
        return [name for name in self.unexpected if layer_number(name) and _layer_form(name) not in forms]

    def _layers_found(self) -> set[int]:
        """Numbers of the layers of which at least one tensor is in the file."""
        return {layer_number(name) for name in set(self.expected) - set(self.missing)} - {0}

    def _shapes(self, config: dict[str, Any]) -> str:
        """The differing shapes, and the settings that ask for them."""
        shapes = [
            f"{name} is {_by(found)} in the file, {_by(wanted)} expected" for name, found, wanted in self.mismatched
        ]
        sizes = {size for _, found, wanted in self.mismatched for size in set(wanted) - set(found)}
        keys = [f"{key} {value}" for key, value in config.items() if type(value) is int and value in sizes]
        return f"{listed(shapes, MAX_LISTED)}" + (f". The config says {', '.join(keys[:4])}" if keys else "")

    def unused_layers(self) -> int:
        """How many layers the file has beyond those of the encoder."""
        forms = {_layer_form(name) for name in self.expected}
        layers = {layer_number(name) for name in self.unexpected if _layer_form(name) in forms}
        return max(layers, default=0) - max(map(layer_number, self.expected)) if layers else 0


def layer_number(name: str) -> int:
    """Number of the layer that a parameter belongs to, from 1; 0 for the embeddings."""
    match = re.search(r"layers?\.(\d+)\.", name)
    return int(match[1]) + 1 if match else 0


def _layer_form(name: str) -> str:
    return re.sub(r"(layers?)\.\d+\.", r"\1.N.", name)


def non_finite(parameters: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the tensors with numbers that are NaN or infinite."""
    return [name for name, tensor in parameters if not bool(tensor.isfinite().all())]


def check_finite(parameters: Iterable[tuple[str, Tensor]], source: object) -> None:
    """Check that all weights are finite.

    Raises:
        UserError: names the tensors with NaN or infinite numbers.
    """
    if broken := non_finite(parameters):
        what = f"some weights are NaN or infinite, in {listed(broken, MAX_LISTED)}"
        raise UserError(
            what, source, "the training that made these weights diverged, or the file is damaged: use others"
        )


def _is_used(name: str) -> bool:
    return not NOT_USED.intersection(name.split("."))


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))
