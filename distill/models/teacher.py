"""The teacher: any encoder that transformers' ``AutoModel`` loads, pooled over its word pieces, with a classifier.

Only this module and the baseline bert-base-chinese import transformers.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from distill.config import FROM_DATA, TeacherSettings
from distill.errors import UserError
from distill.models.pretrained import PROMPTS_FILE
from distill.models.pretrained.checkpoint_files import check_complete, find_weights, read_config
from distill.models.weights import LoadingReport, check_finite, layer_number, read_tensors, without_prefix
from distill.progress import log, remind
from distill.runtime.constants import MASKED
from distill.runtime.packing import without_zero_width
from distill.storage.atomic import write_file, write_json
from distill.storage.run_folder import TEACHER_CARD, TEACHER_HEAD, TRAIN_TEACHER
from distill.text.batching import Batch, ModelOutput, PackedIds, masked_mean

HINT_LAYERS = 4  # layers that a student can imitate
# how transformers loads tensors; those that are missing or have another shape are in its report
LOADING: dict[str, Any] = {"dtype": torch.float32, "ignore_mismatched_sizes": True, "output_loading_info": True}
DEFAULT_MAX_LENGTH = 256  # word pieces, if the settings leave it open


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the CPU or GPU has instructions for bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


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


class Teacher(nn.Module):
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
        states = self._encode(batch, output_hidden_states=True).hidden_states[1:]
        count = min(HINT_LAYERS, len(states))
        chosen = [states[(i + 1) * len(states) // count - 1] for i in range(count)]
        return torch.stack([self._pool(layer.float(), batch.mask) for layer in chosen], dim=1).half()

    def _encode(self, batch: Batch, **options: bool) -> Any:
        """The encoder's output."""
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


def build(source: str, settings: TeacherSettings, classes: int) -> tuple[Teacher, WordpieceTokenizer]:
    """A teacher with a pretrained encoder and a new classifier, with the layers and frozen parameters of the settings.

    Raises:
        UserError: the source cannot be loaded, has fewer layers than ``--teacher_layers``, or no parameter that
            ``--freeze`` names.
    """
    encoder, tokenizer = _load_encoder(source)
    if settings.layers:
        _truncate_layers(encoder, settings.layers)
    _freeze(encoder, settings.freeze)
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = settings.dropout
    teacher = Teacher(encoder, encoder.config.hidden_size, classes, settings.pooling, settings.dropout)
    wanted = DEFAULT_MAX_LENGTH if settings.max_length == FROM_DATA else settings.max_length
    max_length = min(wanted, getattr(encoder.config, "max_position_embeddings", wanted), tokenizer.model_max_length)
    return teacher, WordpieceTokenizer(tokenizer, _prefix(Path(source)), max_length)


def _silence_transformers() -> None:
    """Turn off progress bars and warnings of transformers; what goes wrong is an exception, reported in one line."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _load_encoder(source: str) -> tuple[Any, Any]:
    """Encoder and tokenizer of a folder or Hub id, without a pooler; every weight comes from the files.

    Raises:
        UserError: they cannot be loaded, do not belong together, or the weights are incomplete or not finite.
    """
    _silence_transformers()
    is_folder = Path(source).is_dir()
    encoder, info = _encoder_in(Path(source)) if is_folder else _encoder_on_hub(source)
    report = LoadingReport.of(encoder, info)
    report.check(source, encoder.config.to_dict())
    if unused := report.unused_layers():
        log.info("%s: layers of the weights that the config does not have, and that are not used: %d", source, unused)
    with _report_errors(source, "a folder with a tokenizer that transformers can read"):
        options = {"config": encoder.config, "local_files_only": is_folder, "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # Teacher has a pooling of its own
    _check_tokenizer(encoder, tokenizer, source)
    _check_positions(encoder, tokenizer, source)
    check_finite(encoder.named_parameters(), source)
    return encoder, tokenizer


def _encoder_in(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The encoder in a folder, and transformers' report on its tensors."""
    check_complete(folder)
    settings, tensors = read_config(folder), read_tensors(find_weights(folder))
    if settings["model_type"] not in transformers.CONFIG_MAPPING:
        what = f"transformers {transformers.__version__} has no model type {settings['model_type']}"
        raise UserError(what, folder, "--teacher_model with an encoder such as BERT")
    with _report_errors(folder, "a folder with an encoder such as BERT"):
        config = transformers.CONFIG_MAPPING[settings["model_type"]].from_dict(settings)
        with torch.device("meta"):
            empty = AutoModel.from_config(config, trust_remote_code=False)
    tensors, prefix = without_prefix(tensors, empty.state_dict().keys())
    _check_prefix(prefix, empty, folder)
    with _report_errors(folder, "a folder with an encoder such as BERT"):
        encoder, info = type(empty).from_pretrained(None, config=config, state_dict=tensors, **LOADING)
    return encoder, info


def _encoder_on_hub(model: str) -> tuple[Any, dict[str, Any]]:
    """The encoder with an id on the Hub, and transformers' report on its tensors."""
    with _report_errors(model, "a Hub id that can be reached"):
        encoder, info = AutoModel.from_pretrained(model, use_safetensors=True, trust_remote_code=False, **LOADING)
    return encoder, info


@contextlib.contextmanager
def _report_errors(source: object, valid: str) -> Iterator[None]:
    """Report an exception of transformers as a UserError; ``valid`` says what ``--teacher_model`` needs."""
    try:
        yield
    except Exception as error:  # OSError, ValueError, KeyError, and errors of Rust libraries
        reason = shorten(str(error), 200, placeholder=" …") or type(error).__name__
        raise UserError(f"transformers cannot load it: {reason}", source, f"--teacher_model with {valid}") from error


def _check_prefix(prefix: str, model: Any, folder: Path) -> None:
    """Say which prefix was stripped; refuse the name of another model type.

    Encoders of several types have tensors of the same names and shapes, but compute other things with them: RoBERTa
    counts positions differently from BERT.
    """
    last, model_type = prefix.rstrip(".").rpartition(".")[2], model.config.model_type
    if last in transformers.CONFIG_MAPPING and last not in (model_type, model.base_model_prefix):
        what = f"the tensors' names start with {prefix}, but the config has model_type {model_type}"
        raise UserError(what, folder, f'use the config that belongs to these weights, or "model_type": "{last}"')
    if prefix not in ("", f"{model.base_model_prefix}."):
        log.info("%s: the prefix %s is stripped from the tensors' names", folder, prefix)


def _check_tokenizer(encoder: Any, tokenizer: Any, source: str) -> None:
    """Check that the tokenizer has a vocabulary, a padding token, and a row of the embedding table for every piece."""
    if tokenizer.pad_token_id is None:
        raise UserError("its tokenizer has no padding token", source, "--teacher_model with an encoder such as BERT")
    ids = {piece: index for piece, index in tokenizer.get_vocab().items() if piece}  # "" is an empty line of vocab.txt
    if ids.keys() <= set(tokenizer.all_special_tokens):
        kind = f"{type(tokenizer).__name__}, model_type {encoder.config.model_type}"
        what = f"there is no vocabulary for its tokenizer ({kind})"
        hint = 'a vocab.txt belongs to "model_type": "bert" in config.json; other types have a tokenizer.json'
        raise UserError(what, source, hint)
    pieces, rows = max(ids.values()) + 1, encoder.get_input_embeddings().num_embeddings
    if pieces > rows:
        what = f"the tokenizer has {pieces} word pieces, but the embedding table has {rows} rows"
        raise UserError(what, source, "use the tokenizer (vocab.txt) that was published with these weights")


def _check_positions(encoder: Any, tokenizer: Any, source: str) -> None:
    """Warn if a RoBERTa, which finds padding by its id to count positions, has another id than the tokenizer."""
    embeddings = getattr(encoder, "embeddings", None)
    padding = getattr(embeddings, "padding_idx", None) if hasattr(embeddings, "position_embeddings") else None
    if padding not in (None, tokenizer.pad_token_id):
        remind(
            f"{source}: padding is word piece {tokenizer.pad_token_id} of the tokenizer, but {padding} in the config "
            f"(pad_token_id), so the positions are wrong. Models such as roberta-wwm-ext are of model_type bert, "
            f"not {encoder.config.model_type}."
        )


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
    """Stop training the parameters whose names start with one of the comma-separated prefixes."""
    for prefix in (part.strip() for part in prefixes.split(",") if part.strip()):
        frozen = [parameter for name, parameter in encoder.named_parameters() if name.startswith(prefix)]
        if not frozen:
            names = ", ".join(dict.fromkeys(".".join(name.split(".")[:3]) for name, _ in encoder.named_parameters()))
            raise UserError(f"--freeze {prefix}: no parameter name starts with it", None, f"one of: {names[:200]}")
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextlib.contextmanager
def used_rows(teacher: Teacher, *inputs: PackedIds) -> Iterator[list[PackedIds]]:
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
        full.weight.data[used] = reduced.weight.data.to(full.weight.device)
        encoder.set_input_embeddings(full)


def save_teacher(folder: Path, teacher: Teacher, tokenizer: WordpieceTokenizer, labels: Sequence[str]) -> None:
    """Write a checkpoint that transformers can load, with our classifier and card next to it."""
    encoder: Any = teacher.encoder
    encoder.save_pretrained(folder)
    tokenizer.tokenizer.save_pretrained(folder)
    write_file(folder / TEACHER_HEAD, save({k: v.contiguous() for k, v in teacher.head.state_dict().items()}))
    card = {
        "labels": list(labels),
        "pooling": teacher.pooling,
        "prefix": tokenizer.prefix,
        "max_length": tokenizer.max_length,
    }
    write_json(folder / TEACHER_CARD, card)


def load_teacher_parts(folder: Path) -> tuple[Teacher, WordpieceTokenizer, tuple[str, ...]]:
    """Model, tokenizer and labels as :func:`save_teacher` wrote them.

    Raises:
        UserError: the folder holds no teacher, or a broken one.
    """
    if not (folder / TEACHER_CARD).is_file() or not (folder / TEACHER_HEAD).is_file():
        raise UserError("there is no trained teacher", folder, TRAIN_TEACHER)
    try:
        encoder, tokenizer = _load_encoder(str(folder))
    except UserError as error:
        raise UserError(f"this teacher is broken: {error.what}", error.where, TRAIN_TEACHER) from error
    try:
        card = json.loads((folder / TEACHER_CARD).read_text(encoding="utf-8"))
        teacher = Teacher(encoder, encoder.config.hidden_size, len(card["labels"]), card["pooling"])
        teacher.head.load_state_dict(load_file(folder / TEACHER_HEAD))
        check_finite(teacher.head.named_parameters(), folder)
        return teacher, WordpieceTokenizer(tokenizer, card["prefix"], card["max_length"]), tuple(card["labels"])
    except (SafetensorError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"this teacher is broken: {error}", folder, TRAIN_TEACHER) from error
