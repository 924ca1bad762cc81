"""A fine-tuned classifier of transformers, as ``Trainer`` saves it or the Hub offers it, used as it is."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from distill.data.formats import SUFFIXES, suffix_of
from distill.errors import UserError
from distill.models.pretrained.checkpoint_files import CONFIG_FILES, find_weights
from distill.models.sequence_classifier import (
    classifier_labels,
    gives_label_sets,
    hub_revision,
    load_sequence_classifier,
)
from distill.models.text_classifier import TextClassifier
from distill.storage.fingerprints import fingerprint_file
from distill.teachers.base import LabellingTask, ModelTeacher, TeacherValue, classes_by_label

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?", re.ASCII)
SETTINGS = ("*.json", "*.txt", "*.model")  # of model and tokenizer


def recognise(value: TeacherValue, label_names: Mapping[str, str]) -> HuggingFaceTeacher | None:
    """The classifier in a folder with a config, or with an id on the Hub; None for anything else."""
    if not isinstance(value, str | Path):
        return None
    path = Path(value)
    if any((path / name).is_file() for name in CONFIG_FILES):
        return HuggingFaceTeacher(path, label_names)
    if not _is_hub_id(str(value)):
        return None
    teacher = HuggingFaceTeacher(str(value), label_names)
    teacher.say(f"--teacher {value}: no file or folder here has this name; it is loaded from the Hugging Face Hub")
    return teacher


def _is_hub_id(value: str) -> bool:
    """Whether a value that is no file or folder reads like NAME or USER/NAME[@REVISION], not like a mistyped path."""
    path = Path(value)
    is_file = "/" not in value and bool(path.suffix)
    is_path = path.exists() or (len(path.parts) > 1 and path.parent.is_dir()) or suffix_of(path) in SUFFIXES
    return bool(HUB_ID.fullmatch(value)) and not is_path and not is_file


class HuggingFaceTeacher(ModelTeacher):
    """A classifier that ``AutoModelForSequenceClassification`` loads, from a folder or by its Hub id."""

    @property
    def folder(self) -> Path | None:
        """Its folder; None for one on the Hub."""
        return self.source if isinstance(self.source, Path) else None

    def labels(self) -> tuple[str, ...]:
        """See Teacher: the names of its config's ``id2label``."""
        return self.classes(classifier_labels(str(self.source)))

    @functools.cached_property
    def is_multi_label(self) -> bool:
        """See Teacher: the ``problem_type`` of its config."""
        return gives_label_sets(str(self.source))

    def check_kind(self, *, is_multi_label: bool) -> None:
        """Check that it gives a text as many labels as a text has in the data.

        Raises:
            UserError: it does not.
        """
        if self.is_multi_label != is_multi_label:
            kind = "multi_label_classification"
            what = f"this model gives several labels per text (problem_type {kind}), and in this data a text has one"
            if is_multi_label:
                what = f"this model gives one label per text (problem_type is not {kind}), and in this data a text may "
                what += "have any number"
            hint = "name a classifier of the other kind, or check --multi_label and --single_label"
            raise UserError(what, self.source, hint)

    @functools.cached_property
    def _fingerprints(self) -> dict[str, str]:
        if self.folder is None:
            return {"hub": str(self.source), "revision": hub_revision(str(self.source))}
        settings = {path for pattern in SETTINGS for path in self.folder.glob(pattern)}
        files = sorted({*settings, *find_weights(self.folder).paths})
        return {path.name: fingerprint_file(path) for path in files if path.is_file()}

    def fingerprints(self) -> dict[str, str]:
        """See Teacher: fingerprints of its files, or its Hub id and the commit there."""
        return self._fingerprints

    def record(self, task: LabellingTask) -> dict[str, str]:
        """See Teacher; truncation matters too."""
        return {**super().record(task), "max_length": str(task.max_length)}

    def vector_provenance(self, task: LabellingTask) -> dict[str, str]:
        """See ModelTeacher; truncation matters too."""
        return {**super().vector_provenance(task), "max_length": str(task.max_length)}

    def classifier(self, task: LabellingTask) -> TextClassifier:
        """See ModelTeacher; a class that the data lacks is left out, which renormalises the others."""
        classifier = load_sequence_classifier(str(self.source), task.max_length)
        self.check_kind(is_multi_label=task.is_multi_label)
        return classifier.grouped(classes_by_label(classifier.labels, task, self), task.labels)

    def size(self) -> int | None:
        """See ModelTeacher."""
        if self.folder is None:
            return None
        return sum(path.stat().st_size for path in find_weights(self.folder).paths)
