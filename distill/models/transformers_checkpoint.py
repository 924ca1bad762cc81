"""Loading what transformers saved, from a folder or the Hub: an encoder, or a fine-tuned classifier, and its tokenizer.

Weights are read from safetensors, or from pickles through PyTorch's restricted loader; code of a checkpoint is never
run. Only this module and the baseline bert-base-chinese import transformers.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from distill.errors import UserError, listed
from distill.models.pretrained.checkpoint_files import check_complete, find_weights, read_config
from distill.models.weights import MAX_LISTED, LoadingReport, check_finite, read_tensors, without_prefix
from distill.progress import log, remind

# how transformers loads tensors; those that are missing or have another shape are in its report
LOADING: dict[str, Any] = {"dtype": torch.float32, "ignore_mismatched_sizes": True, "output_loading_info": True}

HUB, HUB_TIMEOUT = "https://huggingface.co", 3.0  # seconds


@dataclass(frozen=True)
class _Kind:
    """What is loaded: transformers' class for it, the flag that names it, and what the flag needs, in words."""

    auto: Any
    flag: str
    model: str

    @property
    def hint(self) -> str:
        """What to name instead of a folder that holds something else."""
        return f"{self.flag} with {self.model}"

    @property
    def hub_hint(self) -> str:
        """What to do about a model on the Hub that cannot be loaded."""
        return (
            f"{self.flag} with a Hub id that can be reached (check the network, or set HF_ENDPOINT), or with a folder"
        )


ENCODER = _Kind(AutoModel, "--teacher_model", "an encoder such as BERT")
CLASSIFIER = _Kind(
    AutoModelForSequenceClassification, "--teacher", "a classifier such as BertForSequenceClassification"
)


def load_encoder(source: str) -> tuple[Any, Any]:
    """Encoder and tokenizer of a folder or Hub id, without a pooler; every weight comes from the files.

    Raises:
        UserError: they cannot be loaded, do not belong together, or the weights are incomplete or not finite.
    """
    encoder, info = _load(source, ENCODER)
    report = LoadingReport.of(encoder, info)
    report.check(source, encoder.config.to_dict())
    if unused := report.unused_layers():
        log.info("%s: layers of the weights that the config does not have, and that are not used: %d", source, unused)
    tokenizer = _tokenizer(source, encoder, ENCODER)
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # the teacher has a pooling of its own
    check_finite(encoder.named_parameters(), source)
    return encoder, tokenizer


def load_classifier(source: str) -> tuple[Any, Any]:
    """A fine-tuned ``AutoModelForSequenceClassification`` and its tokenizer, from a folder or by Hub id.

    Raises:
        UserError: as for :func:`load_encoder`, or the weights have no classifier, or it has a single output.
    """
    model, info = _load(source, CLASSIFIER)
    _check_head(source, model, info["missing_keys"])
    LoadingReport.of(model, info, with_head=True).check(source, model.config.to_dict())
    tokenizer = _tokenizer(source, model, CLASSIFIER)
    check_finite(model.named_parameters(), source)
    return model.eval(), tokenizer


def load_config(source: str) -> Any:
    """The config of a model in a folder or on the Hub.

    Raises:
        UserError: it cannot be read.
    """
    _silence_transformers()
    if Path(source).is_dir():
        return _config_in(Path(source), CLASSIFIER)
    with _report_hub_errors(source, CLASSIFIER):
        return transformers.AutoConfig.from_pretrained(_id(source), **_hub_options(source))


def labels_of_classifier(config: Any, source: str) -> tuple[str, ...]:
    """The names of a classifier's labels (``id2label``), in the order of its logits.

    Raises:
        UserError: they are not numbered from 0.
    """
    numbers = sorted(config.id2label)
    if numbers != list(range(len(numbers))):
        what = f"id2label of its config numbers the labels {listed(list(map(str, numbers)), MAX_LISTED)}"
        raise UserError(what, source, f"number them 0 to {len(numbers) - 1}, in the order of the model's outputs")
    return tuple(str(config.id2label[number]) for number in numbers)


def is_multi_label(config: Any) -> bool:
    """Whether a classifier gives a text any number of labels, by its config."""
    return bool(config.problem_type == "multi_label_classification")


def _check_head(source: str, model: Any, missing: Any) -> None:
    """Check that a model is a classifier of several labels, and that its classifier is in the weights."""
    absent = sorted(name for name in missing if not name.startswith(f"{model.base_model_prefix}."))
    if absent:
        what = f"these weights have no classifier ({listed(absent, MAX_LISTED)} missing), so they cannot label texts"
        raise UserError(what, source, f"{CLASSIFIER.hint}; to fine-tune an encoder: --teacher_model {source}")
    if model.config.num_labels < 2:
        raise UserError("this model has a single output: it is a regression or a reranker", source, CLASSIFIER.hint)


def _load(source: str, kind: _Kind) -> tuple[Any, dict[str, Any]]:
    """The model in a folder or on the Hub, and transformers' report on its tensors."""
    _silence_transformers()
    return _model_in(Path(source), kind) if Path(source).is_dir() else _model_on_hub(source, kind)


def _silence_transformers() -> None:
    """Turn off progress bars and warnings of transformers; what goes wrong is an exception, reported in one line."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _config_in(folder: Path, kind: _Kind) -> Any:
    settings = read_config(folder)
    if settings["model_type"] not in transformers.CONFIG_MAPPING:
        what = f"transformers {transformers.__version__} has no model type {settings['model_type']}"
        raise UserError(what, folder, kind.hint)
    with _report_errors(folder, f"{kind.flag} with a folder with {kind.model}"):
        return transformers.CONFIG_MAPPING[settings["model_type"]].from_dict(settings)


def _model_in(folder: Path, kind: _Kind) -> tuple[Any, dict[str, Any]]:
    check_complete(folder)
    config, tensors = _config_in(folder, kind), read_tensors(find_weights(folder))
    hint = f"{kind.flag} with a folder with {kind.model}"
    with _report_errors(folder, hint), torch.device("meta"):
        empty = kind.auto.from_config(config, trust_remote_code=False)
    tensors, prefix = without_prefix(tensors, empty.state_dict().keys())
    _check_prefix(prefix, empty, folder)
    with _report_errors(folder, hint):
        model, info = type(empty).from_pretrained(None, config=config, state_dict=tensors, **LOADING)
    return model, info


def _model_on_hub(name: str, kind: _Kind) -> tuple[Any, dict[str, Any]]:
    """A model by its id on the Hub: safetensors or, where a classifier has none, pickles (restricted, as always)."""
    options = {**_hub_options(name), **LOADING}
    with _report_hub_errors(name, kind):
        try:
            model, info = kind.auto.from_pretrained(_id(name), use_safetensors=True, **options)
        except OSError as error:
            if kind is ENCODER or "safetensors" not in str(error):
                raise
            model, info = kind.auto.from_pretrained(_id(name), use_safetensors=False, weights_only=True, **options)
    return model, info


def _id(name: str) -> str:
    """The id of a model on the Hub, without ``@REVISION``."""
    return name.partition("@")[0]


def _hub_options(name: str) -> dict[str, Any]:
    """Options for a model on the Hub: only its cache is read if the Hub cannot be reached, and no code is run.

    Without this check, huggingface_hub tries again for half a minute before it says so.
    """
    is_offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    proxy = getproxies().get(urlsplit(endpoint).scheme) or getproxies().get("all")
    is_reachable = not is_offline and _accepts_connections(proxy or endpoint)
    revision = {"revision": name.partition("@")[2]} if "@" in name else {}
    return {"local_files_only": not is_reachable, "trust_remote_code": False, **revision}


@functools.cache
def _accepts_connections(url: str) -> bool:
    """Whether a server takes a connection within ``HUB_TIMEOUT`` seconds; the look-up of its name counts."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    address = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    connected = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection(address, HUB_TIMEOUT):
            connected.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    return connected.is_set()


def _tokenizer(source: str, model: Any, kind: _Kind) -> Any:
    """The tokenizer next to a model, which must fit the model."""
    is_folder = Path(source).is_dir()
    options = {"local_files_only": True, "trust_remote_code": False} if is_folder else _hub_options(source)
    with _report_errors(source, f"{kind.flag} with a folder with a tokenizer that transformers can read"):
        tokenizer = AutoTokenizer.from_pretrained(source if is_folder else _id(source), config=model.config, **options)
    _check_tokenizer(model, tokenizer, source, kind)
    _check_positions(model.base_model, tokenizer, source)
    return tokenizer


@contextlib.contextmanager
def _report_errors(source: object, hint: str) -> Iterator[None]:
    """Report an exception of transformers as a UserError; ``hint`` says what to name instead."""
    try:
        yield
    except Exception as error:  # OSError, ValueError, KeyError, and errors of Rust libraries
        reason = shorten(str(error), 200, placeholder=" …") or type(error).__name__
        raise UserError(f"transformers cannot load it: {reason}", source, hint) from error


@contextlib.contextmanager
def _report_hub_errors(name: str, kind: _Kind) -> Iterator[None]:
    """Report why a model on the Hub cannot be loaded; its name may also be a path that is mistyped."""
    try:
        yield
    except Exception as error:
        if not isinstance(error.__cause__, RepositoryNotFoundError | LocalEntryNotFoundError):
            with _report_errors(name, kind.hub_hint):
                raise
        is_missing = isinstance(error.__cause__, RepositoryNotFoundError)
        hub = "no such model on the Hub" if is_missing else "the Hub cannot be reached"
        raise UserError(f"no such file or folder here, and {hub}", name, kind.hub_hint) from error


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


def _check_tokenizer(encoder: Any, tokenizer: Any, source: str, kind: _Kind) -> None:
    """Check that the tokenizer has a vocabulary, a padding token, and a row of the embedding table for every piece."""
    if tokenizer.pad_token_id is None:
        raise UserError("its tokenizer has no padding token", source, kind.hint)
    ids = {piece: index for piece, index in tokenizer.get_vocab().items() if piece}  # "" is an empty line of vocab.txt
    if ids.keys() <= set(tokenizer.all_special_tokens):
        name = f"{type(tokenizer).__name__}, model_type {encoder.config.model_type}"
        what = f"there is no vocabulary for its tokenizer ({name})"
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
