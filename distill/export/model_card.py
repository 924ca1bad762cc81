"""A model's card, its README.md: what the model is, its training data, its results. The front matter is for the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.data.examples import ACCURACY, AGREEMENT, MICRO_F1
from distill.progress import log
from distill.storage.atomic import write_file
from distill.storage.run_folder import MODEL_CARD

TEMPLATE = "model_card.md.jinja"
FACTS_KEY = "distill"  # of the front matter; holds the card's fields
RULE = "---\n"
RESULTS = re.compile(r"^## Results$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)  # the section that is updated


@dataclass(frozen=True)
class Card:
    """The facts about a model; what is unknown is empty.

    Args:
        kind: "teacher", "student" or "bundle".
        network: a student's architecture, or the name of a teacher's pretrained weights.
        labels: the classes.
        data: name of the data set.
        texts: number of training and dev texts: "train", "without labels", "general", "dev".
        objective: the training objective, as in ``--objective``.
        taught_by: the teachers' pretrained weights.
        dev_accuracy: accuracy of the saved weights on dev.
        measured: "accuracy"; "agreement" with the teachers' answers where the data has no labels; "micro-F1" where a
            text may have any number of labels.
        test: "accuracy", "accuracy_distinct" and "macro_f1", after the evaluation on test; where a text may have any
            number of labels, "micro_f1", "macro_f1" and "subset_accuracy"; of several tasks "TASK, accuracy" etc.
        tasks: of a model of several tasks, each as in its card: its "name", "labels" and perhaps "thresholds".
        cell: name of a recurrent student's cell; empty: an LSTM, or a network without cells.
        reduced: of a bundle that does not hold all words in 16 bits: how many "words" it holds, in 8 bits, and "of" how
            many; perhaps its score on "dev" and that of the student, "student_dev".
        head: metadata that a person has added to the front matter, such as "license".
    """

    kind: str
    network: str
    labels: tuple[str, ...]
    data: str = ""
    texts: Mapping[str, int] = field(default_factory=dict)
    objective: str = ""
    taught_by: tuple[str, ...] = ()
    dev_accuracy: float | None = None
    measured: str = ACCURACY
    test: Mapping[str, float] = field(default_factory=dict)
    tasks: tuple[Mapping[str, Any], ...] = ()
    cell: str = ""
    reduced: Mapping[str, float] = field(default_factory=dict)
    head: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_multi_label(self) -> bool:
        """Whether the model gives a text any number of labels."""
        return self.measured == MICRO_F1

    @property
    def lacks_words(self) -> bool:
        """Whether a bundle leaves out words of the student."""
        return bool(self.reduced) and self.reduced["words"] < self.reduced["of"]

    @property
    def name(self) -> str:
        """The model's name."""
        return " ".join(filter(None, (self.data, self.network_and_cell, self.kind)))

    @property
    def network_and_cell(self) -> str:
        """The network, and its cell unless that is what its name says."""
        return f"{self.network} ({self.cell})" if self.cell else self.network


def write(folder: Path, card: Card, size: int) -> Path:
    """Write the card into its model's folder. In an existing card only front matter and results are replaced.

    What a person has written into it therefore stays; so does a file that is no such card, or whose front matter is
    broken.

    Args:
        folder: the model's folder.
        card: the facts.
        size: of the folder, in bytes.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - Markdown, not HTML
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    head = yaml.safe_dump(_head(card), allow_unicode=True, sort_keys=False)
    body = "\n" + environment.get_template(TEMPLATE).render(card=card, megabytes=size / 1e6) + "\n"
    path = folder / MODEL_CARD
    if read(folder):
        results = RESULTS.search(body)
        body = RESULTS.sub(lambda _: results[0] if results else "", _parts(folder)[1], count=1)
    elif path.is_file():
        log.info("%s: left as it is, it is no model card of this program; if you delete it, one is written", path)
        return path
    return write_file(path, f"{RULE}{head}{RULE}{body}".encode("utf-8", "replace"))


def read(folder: Path) -> Card | None:
    """The card in a model's folder; None if there is none that :func:`write` wrote."""
    try:
        head = yaml.safe_load(_parts(folder)[0])
        facts: Any = {
            key: tuple(value) if isinstance(value, list) else value for key, value in head.pop(FACTS_KEY).items()
        }
        card = Card(**facts)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError):
        return None
    return replace(card, head={key: value for key, value in head.items() if key not in _head(card)})


def _parts(folder: Path) -> tuple[str, str]:
    """Front matter and body of a README.md; empty if there is none."""
    path = folder / MODEL_CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    head, _, body = text.removeprefix(RULE).partition(f"\n{RULE}")
    return head, body


def _head(card: Card) -> dict[str, Any]:
    """The front matter: the Hub's metadata (huggingface.co/docs/hub/model-cards), and the facts for :func:`read`."""
    facts = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(card).items()}
    del facts["head"]
    for name in ("tasks", "cell", "reduced"):
        if not facts[name]:
            del facts[name]
    is_published = bool(card.test) and card.measured != AGREEMENT and not card.tasks and not card.lacks_words
    return {
        "language": "zh",
        "library_name": "distill-zh",
        "pipeline_tag": "text-classification",
        "tags": ["knowledge-distillation", "chinese", card.network.lower()],
        "metrics": ["f1"] if card.is_multi_label else ["accuracy", "f1"],
        **({"model-index": [{"name": card.name, "results": [_result(card)]}]} if is_published else {}),
        **card.head,
        FACTS_KEY: facts,
    }


def _result(card: Card) -> dict[str, Any]:
    if card.is_multi_label:
        first: dict[str, Any] = {"type": "f1", "name": MICRO_F1, "value": card.test["micro_f1"]}
    else:
        first = {"type": "accuracy", "value": card.test["accuracy"]}
    return {
        "task": {"type": "text-classification"},
        "dataset": {"name": card.data, "type": card.data, "split": "test"},
        "metrics": [
            first,
            {"type": "f1", "name": "macro-F1", "value": card.test["macro_f1"]},
        ],
    }
