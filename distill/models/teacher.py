"""The teacher: any encoder that transformers' ``AutoModel`` loads, pooled over its word pieces, with a classifier."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from distill.config import FROM_DATA, TeacherSettings
from distill.errors import UserError
from distill.models.pretrained import PROMPTS_FILE
from distill.models.transformers_checkpoint import load_encoder
from distill.models.weights import check_finite, layer_number
from distill.runtime.constants import MASKED
from distill.runtime.packing import without_zero_width
from distill.storage.atomic import write_file, write_json
from distill.storage.run_folder import TEACHER_CARD, TEACHER_HEAD, TRAIN_TEACHER
from distill.text.batching import Batch, ModelOutput, PackedIds, masked_mean

HINT_LAYERS = 4  # layers that a student can imitate
DEFAULT_MAX_LENGTH = 256  # word pieces, if the settings leave it open


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the CPU or GPU has instructions for bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def default_precision(device: torch.device) -> str:
    """The format in which an encoder computes by default: "bf16" if the device is faster at it, otherwise "fp32"."""
    return "bf16" if has_fast_bf16(device) else "fp32"


def autocast(device: torch.device, bf16: bool | None) -> torch.autocast:
    """A context in which an encoder runs in bfloat16: if ``bf16``, or by default if the device is faster at it."""
    enabled = has_fast_bf16(device) if bf16 is None else bf16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def hint_layers(hidden_states: Sequence[Tensor]) -> list[Tensor]:
    """Evenly spaced layers up to the last, ``HINT_LAYERS`` at most; the first of ``hidden_states`` are embeddings."""
    states = hidden_states[1:]
    count = min(HINT_LAYERS, len(states))
    return [states[(i + 1) * len(states) // count - 1] for i in range(count)]


def longest_input(config: Any, tokenizer: Any, wanted: int) -> int:
    """The number of word pieces to truncate texts to: as many as are wanted and as the model can read."""
    return int(min(wanted, getattr(config, "max_position_embeddings", wanted), tokenizer.model_max_length))


@dataclass(frozen=True)
class WordpieceTokenizer:
    """The encoder's tokenizer.

    Args:
        tokenizer: from transformers, or one that is called like it.
        prefix: put before every text.
        max_length: word pieces to which a text is truncated, special ones included.
    """

    tokenizer: Any
    prefix: str
    max_length: int

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """Ids of the word pieces, special ones included; a masked word becomes the unknown piece."""
        unknown = self.tokenizer.unk_token or ""
        prefixed = [self.prefix + without_zero_width(text).replace(MASKED, unknown) for text in texts]
        encoded = self.tokenizer(prefixed, truncation=True, max_length=self.max_length)["input_ids"] if prefixed else []
        return PackedIds(encoded, self.tokenizer.pad_token_id)


class TeacherNetwork(nn.Module):
    """Encoder -> mean of the word pieces' vectors (or the first vector) -> dropout -> linear classifier."""

    def __init__(self, encoder: nn.Module, width: int, classes: int, pooling: str, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        self.bf16: bool | None = None  # whether the encoder runs in bfloat16; None: if the device is faster at it

    def forward(self, batch: Batch) -> Tensor:
        """Logits, shape (batch, classes)."""
        return self.output(batch).logits

    def output(self, batch: Batch) -> ModelOutput:
        """Logits, and the pooled vector of the last layer."""
        vector = self._pool(self.states(batch), batch.mask)
        return ModelOutput(self.head(self.dropout(vector)), vector)

    def states(self, batch: Batch) -> Tensor:
        """Vectors of the word pieces from the last layer, (batch, pieces, width), float32."""
        states: Tensor = self._encode(batch).last_hidden_state
        return states.float()

    def layer_vectors(self, batch: Batch) -> Tensor:
        """Pooled vectors of evenly spaced layers up to the last: (batch, ``HINT_LAYERS``, width), float16."""
        states = hint_layers(self._encode(batch, output_hidden_states=True).hidden_states)
        return torch.stack([self._pool(layer.float(), batch.mask) for layer in states], dim=1).half()

    def _encode(self, batch: Batch, **options: bool) -> Any:
        """The encoder's output."""
        with autocast(batch.ids.device, self.bf16):
            return self.encoder(input_ids=batch.ids, attention_mask=batch.mask.long(), **options)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """(batch, pieces, width), (batch, pieces) -> (batch, width)."""
        if self.pooling == "cls":
            return states[:, 0]
        return masked_mean(states, mask)

    def embedding_table(self) -> nn.Parameter:
        """The vectors of the word pieces, (pieces, width)."""
        encoder: Any = self.encoder
        table: nn.Parameter = encoder.get_input_embeddings().weight
        return table

    def parameter_groups(self, settings: TeacherSettings) -> list[dict[str, Any]]:
        """Trained parameters with their learning rates: each layer's is ``layer_decay`` times that of the layer above.

        The embeddings count as the layer below the first (Howard & Ruder 2018, arXiv 1801.06146, section 3.2).
        """
        layers: int = self.encoder.config.num_hidden_layers  # type: ignore[assignment, union-attr]
        by_layer: dict[int, list[nn.Parameter]] = {}
        for name, parameter in self.encoder.named_parameters():
            if parameter.requires_grad:
                by_layer.setdefault(layer_number(name), []).append(parameter)
        rates = {layer: settings.learning_rate * settings.layer_decay ** (layers - layer) for layer in by_layer}
        encoder = [{"params": by_layer[layer], "lr": rates[layer]} for layer in sorted(by_layer)]
        return [{"params": list(self.head.parameters()), "lr": settings.head_learning_rate}, *encoder]


def build(source: str, settings: TeacherSettings, classes: int) -> tuple[TeacherNetwork, WordpieceTokenizer]:
    """A teacher with a pretrained encoder and a new classifier, with the layers and frozen parameters of the settings.

    Raises:
        UserError: the source cannot be loaded, has fewer layers than ``--teacher_layers``, or no parameter that
            ``--freeze`` names.
    """
    encoder, tokenizer = load_encoder(source)
    if settings.layers:
        _truncate_layers(encoder, settings.layers)
    _freeze(encoder, settings.freeze)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    teacher = TeacherNetwork(encoder, encoder.config.hidden_size, classes, settings.pooling, settings.dropout)
    wanted = DEFAULT_MAX_LENGTH if settings.max_length == FROM_DATA else settings.max_length
    max_length = longest_input(encoder.config, tokenizer, wanted)
    return teacher, WordpieceTokenizer(tokenizer, _prefix(Path(source)), max_length)


def _prefix(folder: Path) -> str:
    """The text that the weights expect before every input, from the file of sentence-transformers; usually empty."""
    if not (folder / PROMPTS_FILE).is_file():
        return ""
    prompts = json.loads((folder / PROMPTS_FILE).read_text(encoding="utf-8"))
    return str((prompts.get("prompts") or {}).get(prompts.get("default_prompt_name")) or "")


def _truncate_layers(encoder: Any, layers: int) -> None:
    available = encoder.config.num_hidden_layers
    if layers > available:
        what = f"--teacher_layers {layers}, but the encoder has {available}"
        raise UserError(what, None, f"--teacher_layers 1 to {available}")
    for module in encoder.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == available:
                setattr(module, name, child[:layers])
    encoder.config.num_hidden_layers = layers


def _freeze(encoder: Any, prefixes: str) -> None:
    """Stop training the parameters of the modules that are named, separated by commas; a parameter may be named too."""
    for prefix in (part.strip().rstrip(".") for part in prefixes.split(",") if part.strip()):
        frozen = [parameter for name, parameter in encoder.named_parameters() if f"{name}.".startswith(f"{prefix}.")]
        if not frozen:
            names = ", ".join(dict.fromkeys(".".join(name.split(".")[:3]) for name, _ in encoder.named_parameters()))
            raise UserError(f"--freeze {prefix}: no parameter or module has this name", None, f"one of: {names[:200]}")
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextlib.contextmanager
def used_rows(teacher: TeacherNetwork, *inputs: PackedIds) -> Iterator[list[PackedIds]]:
    """Reduce the encoder's embedding to the word pieces that ``inputs`` use; yields the inputs with new ids.

    Training changes the rows of used word pieces only, so the result is the same and the optimizer skips the others (a
    data set of 13,000 headlines uses a quarter of the bundled weights' 47,150 rows). On exit the full table is restored
    with the trained rows.
    """
    encoder: Any = teacher.encoder
    full = encoder.get_input_embeddings()
    pad_id = inputs[0].pad_id
    # ids up to padding's do not change: RoBERTa computes positions by comparing ids with it
    used = torch.cat([torch.arange(pad_id + 1), *(split.flat.long() for split in inputs)]).unique()  # type: ignore[no-untyped-call]
    new_ids = torch.zeros(full.num_embeddings, dtype=torch.int64)
    new_ids[used] = torch.arange(len(used))
    reduced = nn.Embedding(len(used), full.embedding_dim, padding_idx=int(new_ids[pad_id]))
    reduced.weight = nn.Parameter(full.weight.detach()[used], requires_grad=full.weight.requires_grad)
    encoder.set_input_embeddings(reduced)
    try:
        yield [split.renumbered(new_ids) for split in inputs]
    finally:
        encoder.set_input_embeddings(full.to(reduced.weight.device))  # the model may have moved since
        full.weight.data[used] = reduced.weight.data


def save_teacher(
    folder: Path,
    teacher: TeacherNetwork,
    tokenizer: WordpieceTokenizer,
    labels: Sequence[str],
    thresholds: Sequence[float] = (),
) -> None:
    """Write a checkpoint that transformers can load, with our classifier and card next to it.

    ``thresholds``, one per label, are those of a teacher that gives a text any number of labels.
    """
    encoder: Any = teacher.encoder
    encoder.save_pretrained(folder)
    tokenizer.tokenizer.save_pretrained(folder)
    write_file(folder / TEACHER_HEAD, save({k: v.contiguous() for k, v in teacher.head.state_dict().items()}))
    card = {
        "labels": list(labels),
        "pooling": teacher.pooling,
        "prefix": tokenizer.prefix,
        "max_length": tokenizer.max_length,
        **({"thresholds": list(thresholds)} if thresholds else {}),
    }
    write_json(folder / TEACHER_CARD, card)


def load_teacher_parts(
    folder: Path,
) -> tuple[TeacherNetwork, WordpieceTokenizer, tuple[str, ...], tuple[float, ...]]:
    """Model, tokenizer, labels and thresholds as :func:`save_teacher` wrote them.

    Raises:
        UserError: the folder holds no teacher, or a broken one.
    """
    if not (folder / TEACHER_CARD).is_file() or not (folder / TEACHER_HEAD).is_file():
        raise UserError("there is no trained teacher", folder, TRAIN_TEACHER)
    try:
        encoder, tokenizer = load_encoder(str(folder))
    except UserError as error:
        raise UserError(f"this teacher is broken: {error.what}", error.where, TRAIN_TEACHER) from error
    try:
        card = json.loads((folder / TEACHER_CARD).read_text(encoding="utf-8"))
        teacher = TeacherNetwork(encoder, encoder.config.hidden_size, len(card["labels"]), card["pooling"])
        teacher.head.load_state_dict(load_file(folder / TEACHER_HEAD))
        check_finite(teacher.head.named_parameters(), folder)
        wordpieces = WordpieceTokenizer(tokenizer, card["prefix"], card["max_length"])
        return teacher, wordpieces, tuple(card["labels"]), tuple(map(float, card.get("thresholds", ())))
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"this teacher is broken: {error}", folder, TRAIN_TEACHER) from error
