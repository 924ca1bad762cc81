"""Settings of the teacher and the student: their networks and their training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from distill.config.fields import FROM_DATA, Checked, option
from distill.config.students import STUDENTS

STUDENT_INPUTS = ("word", "sentence")
CELLS = ("lstm", "gru", "mingru", "sru", "qrnn")
POOLINGS = ("mean", "cls")
SAMPLINGS = ("uniform", "stratified")


@dataclass(frozen=True)
class TeacherSettings(Checked):
    """The pretrained encoder and its fine-tuning."""

    model: str = option(
        "auto",
        "pretrained encoder: a folder, a Hub id such as bert-base-chinese, bundled, or auto (the checkpoint in "
        "bert_pretrain/, otherwise bundled)",
        flag="teacher_model",
        path=True,
    )
    shared: bool = option(
        False,
        "with several tasks: one encoder with a head per task, instead of a teacher for each",
        flag="shared_teacher",
    )
    layers: int = option(
        0, "number of encoder layers to keep, counted from the first; 0: all", flag="teacher_layers", low=0
    )
    freeze: str = option(
        "",
        "modules or parameters that are not trained, separated by commas, e.g. embeddings,encoder.layer.0",
    )
    pooling: str = option(
        "mean",
        "vector of a text: the mean of its word pieces' vectors, or the vector of [CLS]",
        flag="teacher_pooling",
        choices=POOLINGS,
    )
    max_length: int = option(
        FROM_DATA,
        "maximum number of word pieces per text; longer texts are truncated",
        flag="teacher_max_length",
        low=4,
    )
    epochs: int = option(
        FROM_DATA,
        "maximum number of epochs; training may stop earlier, when dev no longer improves",
        flag="teacher_epochs",
        low=1,
    )
    learning_rate: float = option(
        2e-4, "peak learning rate of the encoder's last layer", flag="teacher_lr", low=0, high=10
    )
    head_learning_rate: float = option(
        1e-3, "peak learning rate of the classifier", flag="teacher_head_lr", low=0, high=10
    )
    layer_decay: float = option(
        0.9,
        "factor by which each layer's learning rate is smaller than that of the layer above",
        low=0,
        high=1,
    )
    averaging: float = option(
        0.995,
        "decay of the exponential moving average of the weights, which is evaluated and saved; 0: no averaging",
        flag="teacher_averaging",
        low=0,
        high=0.9999,
    )
    batch_size: int = option(FROM_DATA, "number of texts per training step", flag="teacher_batch", low=1)
    dropout: float = option(
        0.1, "dropout in the encoder and before the classifier", flag="teacher_dropout", low=0, high=0.9
    )
    label_smoothing: float = option(
        0.05, "share of a label's probability that is spread over all classes", low=0, high=0.9
    )
    r_drop: float = option(
        0.0,
        "weight of R-Drop, the disagreement of two passes with different dropout; 0: off; takes 1.6 times as long",
        low=0,
        high=100,
    )
    adversarial: float = option(
        0.0,
        "length of the adversarial step on word-piece embeddings (FGM), e.g. 0.5; 0: off; doubles the training time",
        low=0,
        high=100,
    )
    pretrain: int = option(
        0,
        "epochs of masked-language-model pretraining on train and unlabelled texts before fine-tuning",
        flag="teacher_pretrain",
        low=0,
    )
    taught_by: tuple[str, ...] = option(
        (),
        "folder of a trained teacher whose logits this teacher is also trained on, unlabelled texts included; with "
        "several, the mean of their logits",
        flag="teacher_taught_by",
        path=True,
    )
    most: int = option(0, "number of train texts to use, as a stratified sample; 0: all", flag="teacher_texts", low=0)


@dataclass(frozen=True)
class StudentSettings(Checked):
    """The student's network over word vectors and its training."""

    architecture: str = option("bilstm", "network of the student", flag="student", choices=STUDENTS)
    input: str = option(
        "word",
        "bilstm: input of the LSTM; word: the word vectors in turn; sentence: only their mean",
        flag="student_input",
        choices=STUDENT_INPUTS,
    )
    cell: str = option(
        "lstm",
        "bilstm: type of recurrent cell; mingru, sru and qrnn have no matrix between states and are faster",
        choices=CELLS,
    )
    vectors: str = option(
        "auto",
        "word vectors: a file (word2vec text or binary, fastText .vec, GloVe or gensim KeyedVectors; also .gz, .bz2 or "
        ".xz), bundled, auto (the file in embeddings/, otherwise bundled), none (random vectors), teacher (computed by "
        "the teacher), or teacher+ and one of the others (both, joined)",
        path=True,
    )
    teacher_width: int = option(
        50, "dimensions of the word vectors that the teacher computes, after PCA", flag="vector_width", low=1, high=4096
    )
    dictionary: int = option(
        FROM_DATA,
        "number of frequent words from jieba's dictionary that are added to the vocabulary, with the teacher's vectors",
        low=0,
    )
    hidden: int = option(
        FROM_DATA,
        "units of the LSTM per direction (bilstm), filters per width (textcnn), or units of the hidden layer",
        flag="student_hidden",
        low=1,
    )
    ngrams: int = option(
        FROM_DATA,
        "size of the hashed character n-gram table (n = 1 to 3); 0: none",
        low=0,
        high=2**24,
    )
    max_length: int = option(
        FROM_DATA, "maximum number of words per text; longer texts are truncated", flag="student_max_length", low=1
    )
    min_count: int = option(
        2, "minimum number of occurrences in the transfer set for a word to get its own vector", low=1
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
        "share of the words that are replaced by the unknown word in a training step",
        low=0,
        high=0.9,
    )
    vector_noise: float = option(
        0.0,
        "standard deviation of the noise that is added to word vectors in a training step",
        low=0,
        high=10,
    )
    epochs: int = option(
        FROM_DATA,
        "maximum number of epochs over the transfer set; training may stop earlier, when dev no longer improves",
        flag="student_epochs",
        low=1,
    )
    learning_rate: float = option(
        float(FROM_DATA),
        "peak learning rate of all parameters except the word vectors",
        flag="student_lr",
        low=0,
        high=10,
    )
    vector_learning_rate: float = option(
        float(FROM_DATA), "peak learning rate of the word vectors", flag="vector_lr", low=0, high=10
    )
    averaging: float = option(
        0.0,
        "decay of the exponential moving average of the weights, which is evaluated and saved; 0: no averaging",
        flag="student_averaging",
        low=0,
        high=0.9999,
    )
    batch_size: int = option(FROM_DATA, "number of texts per training step", flag="student_batch", low=1)
    sampling: str = option(
        "uniform", "uniform: every text once per epoch; stratified: every class equally often", choices=SAMPLINGS
    )

    def with_defaults(self, architecture: str = "") -> StudentSettings:
        """The settings for an architecture (by default their own), with its defaults for fields at ``FROM_DATA``.

        The epochs of a network over words stay open: they depend on the number of texts.
        """
        architecture = architecture or self.architecture
        defaults = STUDENTS[architecture].defaults
        open_fields = {name: value for name, value in defaults.items() if getattr(self, name) == FROM_DATA}
        return dataclasses.replace(self, architecture=architecture, **open_fields)  # type: ignore[arg-type]
