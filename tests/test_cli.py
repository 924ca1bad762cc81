"""The command line: flags, help, errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.cli import main, parser, settings_from
from distill.config import Settings

ROOT = Path(__file__).parent.parent


def settings(*arguments: str) -> Settings:
    return settings_from(vars(parser().parse_args(list(arguments))))


def test_defaults_are_those_of_the_settings() -> None:
    assert settings() == Settings()


def test_the_reference_repos_flags() -> None:
    made = settings("--mode", "train_student", "--a", "0.5", "--T", "2")
    assert (made.objective.hard_weight, made.objective.logits_weight) == (0.5, 2.0)
    assert made.alone().objective.logits_weight == 0 and made.alone().student == made.student


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and " -> " in captured.err
    return captured.err


def test_bad_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean --student_epochs?" in fault(capsys, "--student_epoch", "3")
    assert "unrecognized arguments: --zzz" in fault(capsys, "--zzz")
    assert "invalid choice: 'train'" in fault(capsys, "--mode", "train")
    assert "invalid int value: 'many'" in fault(capsys, "--seeds", "many")
    assert "all weights of the objective are 0" in fault(capsys, "--a", "0", "--T", "0")
    assert "--a is nan" in fault(capsys, "--a", "nan")
    assert "--student_dropout is 1.5, 0 to 0.9 is needed" in fault(capsys, "--student_dropout", "1.5")
    assert "unrecognized arguments" in fault(capsys, "")
    both = fault(capsys, "--student_hidden", "0", "--min_count", "-1")
    assert "--student_hidden is 0, at least 1 is needed; --min_count is -1" in both


def test_errors_have_one_line_and_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = fault(capsys, "--data", str(tmp_path / "nowhere"), "--run", str(tmp_path / "run"))
    assert "nowhere: no such folder" in text
    assert not (tmp_path / "run").exists()
    assert main(["--data", str(tmp_path / "nowhere"), "--debug"]) == 2
    captured = capsys.readouterr()
    assert "Traceback" in captured.err and "no such folder" in captured.err


def test_files_that_the_system_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "a run's folder is needed, this is a file" in fault(capsys, "--run", str(tmp_path / "file"))
    assert "not a directory" in fault(
        capsys, "--run", str(tmp_path / "file" / "run"), "--data", str(ROOT / "data/sample")
    )


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Settings) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("distill.stages.run", broken)
    with pytest.raises(ZeroDivisionError):
        main([])


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ""}


def test_help_is_quick_and_names_every_flag(environment: dict[str, str]) -> None:
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        command = [sys.executable, str(ROOT / "distill.py"), "--help"]
        output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5
    for flag in ("--mode", "--a ", "--T ", "--teacher_model", "--data", "--seeds", "--debug"):
        assert flag in output


def test_the_package_wins_the_import_over_the_script(environment: dict[str, str]) -> None:
    code = "import distill; print(distill.__file__)"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout
    assert output.strip().endswith(str(Path("distill") / "__init__.py"))


def test_importing_the_library_starts_no_work(environment: dict[str, str]) -> None:
    heavy = "{'torch', 'jieba', 'gensim', 'pandas'}"
    code = f"import sys, distill, distill.cli; print({heavy} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout
    assert output.strip() == "set()"
