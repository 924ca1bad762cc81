"""Settings of the two networks, teacher and student, and of how each is trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from distill.config.fields import FROM_DATA, Checked, option

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
# found on dev, see benchmarks/LOG.md; epochs over words depend on the number of texts (distill.training.defaults)
SUITED = {
    "bilstm": _OVER_WORDS,
    "textcnn": _OVER_WORDS,
    "average": _OVER_WORDS,
    "textgcn": _OVER_A_GRAPH,
}


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
        "EMA decay of the weights that are evaluated and kept; 0: the weights themselves",
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
    pretrain: int = option(
        0,
        "epochs in which the encoder first guesses masked word pieces of train and unlabelled texts",
        flag="teacher_pretrain",
        low=0,
    )
    taught_by: tuple[str, ...] = option(
        (),
        "folder of a teacher whose logits this one learns too, also those of unlabelled texts; several: their mean",
        flag="teacher_taught_by",
        path=True,
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
        "EMA decay of the weights that are evaluated and kept; 0: the weights themselves",
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
