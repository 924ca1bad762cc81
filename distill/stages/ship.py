"""The shipping stage: a trained student (and its teacher) as files that others run."""

from __future__ import annotations

from pathlib import Path

from distill.errors import UserError
from distill.export import export_bundle
from distill.progress import log
from distill.stages.run import ALONE, COMMAND, DISTILLED, TEACHER, Run, size_of
from distill.students import CARD
from distill.teacher import CARD as TEACHER_CARD


def export(run: Run) -> list[Path]:
    """Write the student's bundle, or student and teacher as ONNX files, with ``--format onnx``."""
    students = trained_students(run)
    if len(students) > 1:
        raise UserError(f"{len(students)} students are named, one is exported", "--student_folder", "name one")
    if run.settings.export.format == "onnx":
        return _onnx(run, students[0])
    bundle = export_bundle(students[0], run.folder.bundle)
    log.info("%s: %.1f MB, runs with requirements-runtime.txt alone", bundle, size_of(bundle) / 1e6)
    return [bundle]


def trained_students(run: Run) -> list[Path]:
    """The students that are asked for, or the run's: the distilled one, or else the one alone.

    Raises:
        UserError: there is none.
    """
    given = [Path(folder) for folder in run.settings.export.student_folder]
    own = [run.folder.model(kind) for kind in (DISTILLED, ALONE)]
    found = given or [folder for folder in own if (folder / CARD).is_file()][:1]
    if not found:
        raise UserError("no student is trained yet", run.folder.root, f"{COMMAND} train_student, or --student_folder")
    return found


def _onnx(run: Run, student: Path) -> list[Path]:
    from distill.onnx_export import export_student, export_teacher

    target, teacher = run.folder.onnx, run.folder.model(TEACHER)
    written = export_student(student, target / "student")
    if (teacher / TEACHER_CARD).is_file():
        written += export_teacher(teacher, target / "teacher")
        written += export_teacher(teacher, target / "teacher-int8", int8=True)
    else:
        log.info("no teacher in %s: the student alone was exported", run.folder.root)
    return written
