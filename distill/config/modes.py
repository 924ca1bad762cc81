"""What the command can do: its modes, and which sections of the settings each of them uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """What a mode does, in a sentence, and the sections it uses besides ``run``."""

    does: str
    uses: tuple[str, ...]


MODES = {
    "all": Mode(
        "teacher, its logits, student alone, distilled student and report in turn; what is finished is kept",
        ("data", "teacher", "transfer", "student", "objective"),
    ),
    "train_teacher": Mode(
        "fine-tunes the teacher on the labels and keeps the weights that were best on dev", ("data", "teacher")
    ),
    "label": Mode(
        "asks the teacher for its logits of the transfer set, and lists the labels that it doubts", ("data", "transfer")
    ),
    "train_student": Mode(
        "distils the student; with --a 1 --T 0 it learns from the labels alone",
        ("data", "transfer", "student", "objective"),
    ),
    "test": Mode("opens test once, for everything that is trained, and writes the report", ("data", "transfer")),
    "compare": Mode(
        "trains objectives x students x seeds, and writes one table of what they reach on test",
        ("data", "teacher", "transfer", "student", "objective", "compare"),
    ),
    "tune": Mode(
        "searches a student's settings on dev, by Optuna", ("data", "transfer", "student", "objective", "compare")
    ),
    "export": Mode("writes the student as a bundle that runs without PyTorch, or as ONNX files", ("data", "export")),
    "benchmark": Mode("times every model from raw text to label, in one table", ("data", "export")),
    "predict": Mode("labels files of any size through a bundle, row by row in their order", ("data", "predict")),
    "serve": Mode("answers over HTTP through a bundle, and shows a page to try it", ("data", "predict", "serve")),
}
