"""Teachers of every kind behind one interface: what ``--teacher`` names, or an object in Python.

A new kind is a module with a function that recognises its values, and a line in :data:`KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distill.errors import UserError
from distill.teachers import function, huggingface, recorded, saved
from distill.teachers.base import LabellingTask, ModelTeacher, Teacher, TeacherValue

__all__ = ["KINDS", "LabellingTask", "ModelTeacher", "Teacher", "TeacherValue", "labels_of_teachers", "resolve"]

Recogniser = Callable[[TeacherValue, Mapping[str, str]], Teacher | None]
KINDS: list[Recogniser] = [  # the first one that recognises a value opens it
    function.recognise,
    saved.recognise,
    recorded.recognise,
    huggingface.recognise,
]
KIND_NAMES = (
    "a folder that this program saved, a fine-tuned Hugging Face classifier (folder or Hub id), a file of recorded "
    "answers, or a Python function (MODULE:FUNCTION or FILE.py:FUNCTION)"
)


def resolve(value: TeacherValue, label_names: Mapping[str, str]) -> Teacher:
    """The teacher that a value of ``--teacher`` names; no weights are read yet.

    Args:
        value: a folder, a file, a Hub id, MODULE:FUNCTION or FILE.py:FUNCTION; in Python also a function itself.
        label_names: the data's names of labels that the teacher calls differently (``--teacher_labels``).

    Raises:
        UserError: there is no such file or folder, or it is no teacher of any kind.
    """
    for recognise in KINDS:
        if (teacher := recognise(value, label_names)) is not None:
            return teacher
    where = f"--teacher {value}"
    if isinstance(value, str | Path) and Path(value).exists():
        raise _not_a_teacher(Path(value), where)
    raise UserError("no such file or folder", where, f"check the path; a teacher is {KIND_NAMES}")


def labels_of_teachers(teachers: Sequence[Teacher]) -> tuple[str, ...]:
    """The classes of data without labels: those of the first teacher that has a fixed order, else all that occur.

    Raises:
        UserError: a teacher does not say which classes it knows.
    """
    fixed = [teacher for teacher in teachers if not isinstance(teacher, recorded.RecordedTeacher)]
    if fixed:
        return fixed[0].labels()
    return tuple(sorted({label for teacher in teachers for label in teacher.labels()}))


def _not_a_teacher(path: Path, where: str) -> UserError:
    """The error for a folder or file that holds no teacher; a Trainer's output folder holds some one level below."""
    below = sorted(str(child) for child in path.glob("*/") if (child / "config.json").is_file())
    if below:
        listed = ", ".join(Path(child).name for child in below[:5])
        return UserError(f"this folder is no teacher, but it holds some: {listed}", where, f"--teacher {below[-1]}")
    found = ", ".join(sorted(child.name for child in path.iterdir())[:8]) if path.is_dir() else path.suffix
    return UserError(f"there is no trained teacher; found: {found or 'nothing'}", where, f"a teacher is {KIND_NAMES}")
