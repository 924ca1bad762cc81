"""The teacher: any encoder that transformers' ``AutoModel`` loads, pooled over its word pieces, with a classifier.

The only module that imports transformers, beside the baseline bert-base-chinese.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from distill.config import FROM_DATA, TeacherSettings
from distill.errors import UserError
from distill.models.pretrained import PROMPTS
from distill.storage.atomic import write_file, write_json
from distill.text.batching import Batch, ModelOutput, PackedIds, masked_mean
from distill.text.segmentation import MASKED

HEAD = "head.safetensors"
CARD = "teacher.json"
HINT_LAYERS = 4
LONGEST = 256  # word pieces of a text, where neither the settings nor the encoder say less


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the processor or GPU multiplies bfloat16 itself; elsewhere bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


@dataclass(frozen=True)
class Wordpieces:
    """The encoder's tokenizer with what goes before a text and where a text is cut."""

    tokenizer: Any
    prefix: str
    max_length: int

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """Ids of the word pieces, special ones included; a masked word becomes the tokenizer's unknown piece."""
        unknown = self.tokenizer.unk_token or ""
        prefixed = [self.prefix + text.replace(MASKED, unknown) for text in texts]
        encoded = self.tokenizer(prefixed, truncation=True, max_length=self.max_length)["input_ids"] if prefixed else []
        return PackedIds(encoded, self.tokenizer.pad_token_id)


class Teacher(nn.Module):
    """Encoder -> mean of the word pieces' vectors (or the first one's) -> dropout -> linear classifier."""

    def __init__(self, encoder: nn.Module, width: int, classes: int, pooling: str, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        self.bf16: bool | None = None  # whether the encoder works in bfloat16; None: where the machine is faster at it

    def forward(self, batch: Batch) -> Tensor:
        """Logits, shape (batch, classes)."""
        return self.answer(batch).logits

    def answer(self, batch: Batch) -> ModelOutput:
        """Logits, and the pooled vector of the last layer."""
        vector = self._pool(self.states(batch), batch.mask)
        return ModelOutput(self.head(self.dropout(vector)), vector)

    def states(self, batch: Batch) -> Tensor:
        """The last layer's vectors of the word pieces, (batch, pieces, width), float32."""
        states: Tensor = self._states(batch).last_hidden_state
        return states.float()

    def layer_vectors(self, batch: Batch) -> Tensor:
        """Pooled vectors of some evenly spaced layers, the last one last: (batch, ``HINT_LAYERS``, width), float16."""
        states = self._states(batch, output_hidden_states=True).hidden_states[1:]
        count = min(HINT_LAYERS, len(states))
        chosen = [states[(place + 1) * len(states) // count - 1] for place in range(count)]
        return torch.stack([self._pool(layer.float(), batch.mask) for layer in chosen], dim=1).half()

    def _states(self, batch: Batch, **options: bool) -> Any:
        """What the encoder says."""
        device = batch.ids.device
        bf16 = has_fast_bf16(device) if self.bf16 is None else self.bf16
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return self.encoder(input_ids=batch.ids, attention_mask=batch.mask.long(), **options)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """(batch, pieces, width), (batch, pieces) -> (batch, width)."""
        if self.pooling == "cls":
            return states[:, 0]
        return masked_mean(states, mask)

    def embedding_table(self) -> nn.Parameter:
        """The word pieces' vectors, (pieces, width)."""
        encoder: Any = self.encoder
        table: nn.Parameter = encoder.get_input_embeddings().weight
        return table

    def parameter_groups(self, settings: TeacherSettings) -> list[dict[str, Any]]:
        """Trained parameters with their learning rates: each layer's is ``layer_decay`` times that of the layer above.

        The embeddings lie below the first layer (Howard & Ruder 2018, arXiv 1801.06146, section 3.2).
        """
        layers: int = self.encoder.config.num_hidden_layers  # type: ignore[assignment, union-attr]
        by_height: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.encoder.named_parameters():
            if parameter.requires_grad:
                by_height.setdefault(_height(name), []).append(parameter)
        rates = {height: settings.learning_rate * settings.layer_decay ** (layers - height) for height in by_height}
        encoder = [{"params": by_height[height], "lr": rates[height]} for height in sorted(by_height)]
        return [{"params": list(self.head.parameters()), "lr": settings.head_learning_rate}, *encoder]


def _height(name: str) -> int:
    """Layers below and including a parameter's own: 0 for the embeddings."""
    numbered = re.search(r"layers?\.(\d+)\.", name)
    return int(numbered[1]) + 1 if numbered else 0


def build(source: str, settings: TeacherSettings, classes: int) -> tuple[Teacher, Wordpieces]:
    """A teacher with pretrained encoder and new classifier, cut and frozen as the settings say.

    Raises:
        UserError: the source cannot be loaded, has fewer layers than asked for, or no parameter of a frozen name.
    """
    encoder, tokenizer = _load_encoder(source)
    if settings.layers:
        _keep_layers(encoder, settings.layers)
    _freeze(encoder, settings.freeze)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    teacher = Teacher(encoder, encoder.config.hidden_size, classes, settings.pooling, settings.dropout)
    asked = LONGEST if settings.max_length == FROM_DATA else settings.max_length
    longest = min(asked, getattr(encoder.config, "max_position_embeddings", asked), tokenizer.model_max_length)
    return teacher, Wordpieces(tokenizer, _prefix(Path(source)), longest)


def _quiet() -> None:
    """Keep progress bars and warnings of transformers out of ours: a fault is raised, and said in one line."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _load_encoder(source: str) -> tuple[Any, Any]:
    _quiet()
    local = Path(source).is_dir()
    try:
        encoder = AutoModel.from_pretrained(source, use_safetensors=True, local_files_only=local, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError and Rust errors for a bad checkpoint
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        where = (
            "a folder with config.json, model.safetensors and a tokenizer" if local else "a Hub id that can be reached"
        )
        raise UserError(f"transformers cannot load it: {reason}", source, f"--teacher_model with {where}") from error
    if tokenizer.pad_token_id is None:
        raise UserError("its tokenizer has no padding token", source, "--teacher_model with an encoder such as BERT")
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # the pooling is Teacher's own
    return encoder, tokenizer


def _prefix(folder: Path) -> str:
    """What these weights expect before a text, from sentence-transformers' own file; mostly nothing."""
    if not (folder / PROMPTS).is_file():
        return ""
    prompts = json.loads((folder / PROMPTS).read_text(encoding="utf-8"))
    return str((prompts.get("prompts") or {}).get(prompts.get("default_prompt_name")) or "")


def _keep_layers(encoder: Any, layers: int) -> None:
    there = encoder.config.num_hidden_layers
    if layers > there:
        raise UserError(
            f"--teacher_layers {layers}, but the encoder has {there}", None, f"--teacher_layers 1 to {there}"
        )
    for module in encoder.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == there:
                setattr(module, name, child[:layers])
    encoder.config.num_hidden_layers = layers


def _freeze(encoder: Any, beginnings: str) -> None:
    for beginning in (part.strip() for part in beginnings.split(",") if part.strip()):
        named = [parameter for name, parameter in encoder.named_parameters() if name.startswith(beginning)]
        if not named:
            names = ", ".join(dict.fromkeys(".".join(name.split(".")[:3]) for name, _ in encoder.named_parameters()))
            raise UserError(f"--freeze {beginning}: no parameter begins so", None, f"some that do: {names[:200]}")
        for parameter in named:
            parameter.requires_grad_(False)


@contextlib.contextmanager
def used_rows(teacher: Teacher, *inputs: PackedIds) -> Iterator[list[PackedIds]]:
    """Within the block the encoder has vectors for those word pieces only that ``inputs`` use; yields them renumbered.

    Training changes the used rows alone, so this is the same training, without an optimizer's work on the others (of
    the bundled weights' 47,150 rows a data set of 13,000 headlines uses a quarter). Afterwards all rows are back.
    """
    encoder: Any = teacher.encoder
    whole = encoder.get_input_embeddings()
    pad_id = inputs[0].pad_id
    # ids up to padding's stay as they are: RoBERTa counts places by comparing with it
    used = torch.cat([torch.arange(pad_id + 1), *(split.flat.long() for split in inputs)]).unique()  # type: ignore[no-untyped-call]
    new_ids = torch.zeros(whole.num_embeddings, dtype=torch.int64)
    new_ids[used] = torch.arange(len(used))
    part = nn.Embedding(len(used), whole.embedding_dim, padding_idx=int(new_ids[pad_id]))
    part.weight = nn.Parameter(whole.weight.detach()[used], requires_grad=whole.weight.requires_grad)
    encoder.set_input_embeddings(part)
    try:
        yield [split.renumbered(new_ids) for split in inputs]
    finally:
        whole.weight.data[used] = part.weight.data.to(whole.weight.device)
        encoder.set_input_embeddings(whole)


def save_teacher(folder: Path, teacher: Teacher, wordpieces: Wordpieces, labels: Sequence[str]) -> None:
    """Write a checkpoint that transformers loads by itself, and beside it the classifier and its settings."""
    encoder: Any = teacher.encoder
    encoder.save_pretrained(folder)
    wordpieces.tokenizer.save_pretrained(folder)
    write_file(folder / HEAD, save({k: v.contiguous() for k, v in teacher.head.state_dict().items()}))
    card = {
        "labels": list(labels),
        "pooling": teacher.pooling,
        "prefix": wordpieces.prefix,
        "max_length": wordpieces.max_length,
    }
    write_json(folder / CARD, card)


def load_teacher_parts(folder: Path) -> tuple[Teacher, Wordpieces, tuple[str, ...]]:
    """Model, word pieces and labels as :func:`save_teacher` wrote them.

    Raises:
        UserError: the folder holds no teacher.
    """
    if not (folder / CARD).is_file() or not (folder / HEAD).is_file():
        raise UserError("there is no trained teacher", folder, "python distill.py --mode train_teacher")
    encoder, tokenizer = _load_encoder(str(folder))
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        teacher = Teacher(encoder, encoder.config.hidden_size, len(card["labels"]), card["pooling"])
        teacher.head.load_state_dict(load_file(folder / HEAD))
        return teacher, Wordpieces(tokenizer, card["prefix"], card["max_length"]), tuple(card["labels"])
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"this teacher is broken: {error}", folder, "python distill.py --mode train_teacher") from error
