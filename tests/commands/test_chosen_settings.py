"""Settings of a run: --save_config saves numbers that every model of the run would choose; unused flags are named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from conftest import output_of

from distill.commands import with_chosen_settings
from distill.commands.experiment import Run
from distill.config import STUDENTS, CompareSettings, DataSettings, RunSettings, Settings, StudentSettings
from distill.config.fields import FROM_DATA
from distill.training import defaults


@pytest.mark.parametrize("mode", ["all", "compare"])
def test_every_student_is_the_same_with_the_saved_numbers(title_folder: Path, tmp_path: Path, mode: str) -> None:
    settings = Settings(
        run=RunSettings(mode=mode, run=str(tmp_path / "run")),
        data=DataSettings(data=str(title_folder)),
        compare=CompareSettings(students=",".join(STUDENTS)),
        student=StudentSettings(word_dropout=0.25),
    )
    chosen = with_chosen_settings(settings)
    assert chosen.student.word_dropout == 0.25 and chosen.student.max_length > 0 < chosen.teacher.batch_size
    assert chosen.teacher.epochs == FROM_DATA, "a teacher that LinearSVC beats is trained for more"
    before, after = Run(settings), Run(chosen)
    for network in STUDENTS if mode == "compare" else [""]:
        for has_teacher in (False, True):
            expected, saved = (run.student_settings(network, has_teacher=has_teacher) for run in (before, after))
            assert saved == expected
            assert defaults.student_epochs(saved, 4_000) == defaults.student_epochs(expected, 4_000)
    assert after.transfer_settings == before.transfer_settings and after.teacher_settings == before.teacher_settings


def test_the_numbers_of_a_student_alone_are_saved(title_folder: Path, tmp_path: Path) -> None:
    settings = Settings(run=RunSettings(run=str(tmp_path / "run")), data=DataSettings(data=str(title_folder)))
    chosen = with_chosen_settings(settings.alone()).student
    open_fields = [name for name, value in dataclasses.asdict(chosen).items() if value == FROM_DATA]
    assert not open_fields and chosen.epochs == 60


def test_flags_without_effect_are_named(
    tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = str(Path(__file__).parents[1] / "fixtures" / "student")
    flags = [*tiny_flags, "--run", str(tmp_path), "--mode", "label", "--shared_teacher", "--task_weights", "1,1"]
    named = output_of(capsys, [*flags, "--teacher", student, "--teachers", "2"])
    (tmp_path / "names.csv").write_text("theirs,ours\na,b\n", encoding="utf-8")
    own = output_of(
        capsys, [*flags, "--mode", "train_student", "--a", "1", "--teacher_labels", str(tmp_path / "names.csv")], 2
    )
    for flag in ("--shared_teacher", "--task_weights", "--teachers"):
        assert (f"not used: {flag}," in named, f"not used: {flag}," in own) == (True, flag != "--teachers")
    assert "not used: --teacher_labels, as there is no --teacher" in own
