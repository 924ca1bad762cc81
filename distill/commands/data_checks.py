"""The checks of a run's data that need a tokenizer or the segmented texts, and the warnings that follow from checks."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence

from distill.commands.experiment import Run
from distill.data import Dataset
from distill.data.checks import Check, data_checks, truncated_texts, unknown_pieces, unseen_words
from distill.data.splits import evenly_spaced
from distill.models.teacher import WordpieceTokenizer
from distill.models.text_classifier import TextClassifier
from distill.models.tokenizer import WordTokenizer
from distill.progress import remind
from distill.translation import Text

MAX_TOKENIZED = 2_000  # texts of a split, for the teacher's checks
MAX_SEGMENTED = 10_000  # texts of dev and of test, for the student's checks
UNLIMITED = 10**6  # word pieces or more; transformers writes about 10**30 where a tokenizer has no limit


def warn_of(checks: Iterable[Check]) -> None:
    """Log the checks that are warnings; they are repeated when the command ends."""
    for check in checks:
        if check.is_warning:
            remind(check.message, of_model=False)


def teacher_checks(tokenizer: WordpieceTokenizer, data: Dataset) -> list[Check]:
    """How many texts of a sample the teacher truncates, and how many word pieces its tokenizer does not know."""
    splits = {"train": data.train, "test": data.test}
    texts = {
        split: [example.text for example in evenly_spaced(examples, MAX_TOKENIZED)]
        for split, examples in splits.items()
    }
    whole, longest = dataclasses.replace(tokenizer, max_length=UNLIMITED), tokenizer.tokenizer.model_max_length
    limit = longest if longest < UNLIMITED else 0
    lengths = {split: whole.encode(of_split).lengths.tolist() for split, of_split in texts.items()}
    return [
        truncated_texts("teacher", lengths, tokenizer.max_length, Text("word pieces"), limit),
        _unknown_pieces(whole, [*texts["train"], *texts["test"]]),
    ]


def _unknown_pieces(tokenizer: WordpieceTokenizer, texts: Sequence[str]) -> Check:
    """The share of unknown word pieces in whole texts; special word pieces are not counted."""
    pieces, special = tokenizer.encode(texts).flat, len(texts) * len(tokenizer.encode([""]).flat)
    unknown_id = -1 if tokenizer.tokenizer.unk_token_id is None else tokenizer.tokenizer.unk_token_id
    unknown = int((pieces == unknown_id).sum())
    characters = _unknown_characters(tokenizer, texts) if unknown else ()
    return unknown_pieces(unknown / max(1, len(pieces) - special), tokenizer.tokenizer.unk_token or "", characters)


def _unknown_characters(tokenizer: WordpieceTokenizer, texts: Sequence[str]) -> list[str]:
    """The characters that the tokenizer does not know, the most frequent first."""
    counts = Counter(char for text in texts for char in text if not char.isspace())
    encoded = tokenizer.tokenizer(list(counts), add_special_tokens=False)["input_ids"]
    unknown = {char for char, ids in zip(counts, encoded, strict=True) if tokenizer.tokenizer.unk_token_id in ids}
    return [char for char, _ in counts.most_common() if char in unknown]


def student_checks(run: Run, max_length: int) -> list[Check]:
    """How many texts a student truncates, and how many words of test it has never seen."""
    train = run.segmented(run.data.train)
    dev, test = (run.segmented(evenly_spaced(split, MAX_SEGMENTED)) for split in (run.data.dev, run.data.test))
    lengths = {"train": [len(words) for words in train], "test": [len(words) for words in test]}
    return [truncated_texts("student", lengths, max_length, Text("words")), unseen_words(train, dev, test)]


def checks_of(run: Run, models: Iterable[TextClassifier]) -> list[Check]:
    """All checks of a run whose models are trained, each once."""
    checks = data_checks(run.data)
    for tokenizer in (model.tokenizer for model in models):
        if isinstance(tokenizer, WordpieceTokenizer):
            checks += teacher_checks(tokenizer, run.data)
        elif isinstance(tokenizer, WordTokenizer):
            checks += student_checks(run, tokenizer.max_length)
    return list(dict.fromkeys(checks))
