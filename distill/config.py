"""Settings: frozen dataclasses, one sentence per field; the command line's flags are made from them."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from distill.errors import UserError, joined

MODES = ("all", "train_teacher", "train_student", "test", "label")
STUDENT_INPUTS = ("word", "sentence")
POOLINGS = ("mean", "cls")


def option(
    default: Any,
    meaning: str,
    *,
    flag: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    choices: tuple[str, ...] = (),
) -> Any:
    """A settings field: its default, a sentence, its flag if not the field's name, and what values it allows."""
    allowed = {"low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata={"help": meaning, "flag": flag, **allowed})


@dataclass(frozen=True)
class Checked:
    """Checks every field against what it allows on construction and names all faults at once."""

    def __post_init__(self) -> None:
        faults = []
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            low, high = field.metadata["low"], field.metadata["high"]
            if not isinstance(value, str) and not low <= value <= high:  # nor is NaN
                faults.append(f"--{flag_of(field)} is {value}, {_range(low, high)} is needed")
            if choices and value not in choices:
                faults.append(f"--{flag_of(field)} is {value!r}, one of {', '.join(choices)} is needed")
        if faults:
            raise UserError(joined(faults), "settings", "python distill.py --help")


def _range(low: float, high: float) -> str:
    return f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"


def flag_of(field: dataclasses.Field[Any]) -> str:
    """A field's flag, without the dashes."""
    return str(field.metadata["flag"] or field.name)


@dataclass(frozen=True)
class DataSettings(Checked):
    """Where the examples are and how their columns are named."""

    data: str = option("", "folder with train, dev and test files (see data/README.md); empty: the embedded reviews")
    train_file: str = option("", "training examples, instead of the folder's train file")
    dev_file: str = option("", "dev examples; without any, a stratified tenth of train is set aside")
    test_file: str = option("", "test examples; without any, a stratified tenth of train is set aside")
    text_column: str = option("", "name of the texts' column; empty: found among the usual names")
    label_column: str = option("", "name of the labels' column; empty: found among the usual names")


@dataclass(frozen=True)
class TeacherSettings(Checked):
    """The encoder that is fine-tuned, and how."""

    model: str = option("auto", "auto, bundled, a folder, or a Hub id such as bert-base-chinese", flag="teacher_model")
    layers: int = option(0, "encoder layers kept, from the first; 0: all", flag="teacher_layers", low=0)
    freeze: str = option(
        "",
        "comma-separated beginnings of parameter names left untrained, as in embeddings,encoder.layer.0",
        flag="freeze",
    )
    pooling: str = option("mean", "how word pieces become one vector", flag="teacher_pooling", choices=POOLINGS)
    max_length: int = option(64, "word pieces read of a text; the rest is cut", flag="teacher_max_length", low=4)
    epochs: int = option(2, "passes over train at most", flag="teacher_epochs", low=1)
    learning_rate: float = option(2e-4, "peak learning rate of the last layer", flag="teacher_lr", low=0, high=10)
    head_learning_rate: float = option(
        1e-3, "peak learning rate of the classifier", flag="teacher_head_lr", low=0, high=10
    )
    layer_decay: float = option(
        0.9, "each layer's learning rate is this times that of the layer above", flag="layer_decay", low=0, high=1
    )
    batch_size: int = option(32, "texts in a training step", flag="teacher_batch", low=1)
    dropout: float = option(
        0.1, "dropout within the encoder and before the classifier", flag="teacher_dropout", low=0, high=0.9
    )
    label_smoothing: float = option(
        0.05, "share of a label's weight spread over all classes", flag="label_smoothing", low=0, high=0.9
    )
    most: int = option(0, "train on about this many texts, a stratified choice; 0: all", flag="teacher_texts", low=0)


@dataclass(frozen=True)
class StudentSettings(Checked):
    """The biLSTM over word vectors, and how it is trained."""

    input: str = option(
        "word",
        "word: every word is a time step; sentence: the mean of the word vectors is the only one",
        flag="student_input",
        choices=STUDENT_INPUTS,
    )
    vectors: str = option("auto", "word vectors: auto, bundled, or a word2vec file (.gz and .bz2 too)", flag="vectors")
    hidden: int = option(128, "units of the LSTM in each direction", flag="student_hidden", low=1)
    max_length: int = option(64, "words read of a text; the rest is cut", flag="student_max_length", low=1)
    min_count: int = option(
        2, "a word must occur this often in train to get a vector of its own", flag="min_count", low=1
    )
    dropout: float = option(
        0.2, "dropout on the word vectors and before the classifier", flag="student_dropout", low=0, high=0.9
    )
    epochs: int = option(8, "passes over train at most", flag="student_epochs", low=1)
    learning_rate: float = option(
        2e-3, "peak learning rate of all but the word vectors", flag="student_lr", low=0, high=10
    )
    vector_learning_rate: float = option(
        1e-2, "peak learning rate of the word vectors", flag="vector_lr", low=0, high=10
    )
    batch_size: int = option(64, "texts in a training step", flag="student_batch", low=1)


@dataclass(frozen=True)
class ObjectiveSettings(Checked):
    """Weights of the distillation objective, by the reference repo's names."""

    hard_weight: float = option(0.0, "weight of the cross-entropy with the labels", flag="a", low=0, high=1e6)
    logits_weight: float = option(
        1.0,
        "weight of the mean squared error with the teacher's logits; 0 trains the student alone",
        flag="T",
        low=0,
        high=1e6,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hard_weight == 0 and self.logits_weight == 0:
            raise UserError("--a and --T are both 0: nothing to learn from", "settings", "--a 1 --T 0 or --a 0 --T 1")


@dataclass(frozen=True)
class RunSettings(Checked):
    """What to do, where to keep it, and what all random choices hang on."""

    mode: str = option("all", "what to do", choices=MODES)
    run: str = option("", "folder of this run; empty: runs/ and the data folder's name, or runs/demo")
    seed: int = option(42, "the one seed of every random choice", low=0)
    seeds: int = option(1, "students of each kind, trained with seeds SEED, SEED+1, …", low=1)
    threads: int = option(0, "processor threads; 0: one per core", low=0)


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    teacher: TeacherSettings = TeacherSettings()
    student: StudentSettings = StudentSettings()
    objective: ObjectiveSettings = ObjectiveSettings()

    def alone(self) -> Settings:
        """The same student without its teacher: a=1, T=0."""
        return dataclasses.replace(self, objective=ObjectiveSettings(hard_weight=1.0, logits_weight=0.0))


SECTIONS: dict[str, type[Checked]] = {
    "run": RunSettings,
    "data": DataSettings,
    "teacher": TeacherSettings,
    "student": StudentSettings,
    "objective": ObjectiveSettings,
}
