"""The command line: flags, help, errors."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.cli import completion, main, parser, settings_from
from distill.config import MODES, Settings
from distill.progress import log

ROOT = Path(__file__).parent.parent
FULL = Path("/dev/full")
BASH, FISH = shutil.which("bash") or "", shutil.which("fish") or ""


def settings(*arguments: str) -> Settings:
    return settings_from(vars(parser().parse_args(list(arguments))))


def test_defaults_are_those_of_the_settings() -> None:
    assert settings() == Settings()


def test_the_reference_repos_flags() -> None:
    parsed = settings("--mode", "train_student", "--a", "0.5", "--T", "2")
    assert (parsed.objective.hard_weight, parsed.objective.logits_weight) == (0.5, 2.0)
    assert parsed.alone().objective.logits_weight == 0 and parsed.alone().student == parsed.student


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and " -> " in captured.err
    return captured.err


def test_bad_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean --student_epochs?" in error_of(capsys, "--student_epoch", "3")
    assert "unrecognized arguments: --zzz" in error_of(capsys, "--zzz")
    assert "invalid choice: 'train'" in error_of(capsys, "--mode", "train")
    assert "invalid int value: 'many'" in error_of(capsys, "--seeds", "many")
    assert "all weights of the objective are 0" in error_of(capsys, "--a", "0", "--T", "0")
    assert "--a is nan" in error_of(capsys, "--a", "nan")
    assert "--student_dropout is 1.5, must be between 0 and 0.9" in error_of(capsys, "--student_dropout", "1.5")
    assert "unrecognized arguments" in error_of(capsys, "")
    both = error_of(capsys, "--student_hidden", "0", "--min_count", "-1")
    assert "--student_hidden is 0, must be at least 1; --min_count is -1" in both


def test_errors_have_one_line_and_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = error_of(capsys, "--data", str(tmp_path / "nowhere"), "--run", str(tmp_path / "run"))
    assert "nowhere: no such folder" in text
    assert not (tmp_path / "run").exists()
    assert main(["--data", str(tmp_path / "nowhere"), "--debug"]) == 2
    captured = capsys.readouterr()
    assert "Traceback" in captured.err and "no such folder" in captured.err


def test_files_that_the_system_refuses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "this is a file; a run needs a folder" in error_of(capsys, "--run", str(tmp_path / "file"))
    assert "not a directory" in error_of(
        capsys, "--run", str(tmp_path / "file" / "run"), "--data", str(ROOT / "data/sample")
    )


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Settings) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("distill.commands.run_mode", broken)
    with pytest.raises(ZeroDivisionError):
        main([])


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ""}


def test_help_is_quick_and_names_every_flag(environment: dict[str, str]) -> None:
    before = os.times()  # CPU seconds: wall time depends on what else the machine does
    command = [sys.executable, str(ROOT / "distill.py"), "--help"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5
    for flag in (
        "--mode",
        "--config",
        "  predict  ",
        "--a ",
        "--T ",
        "--teacher_model",
        "--data",
        "--seeds",
        "--debug",
    ):
        assert flag in output


def test_import_distill_finds_the_package_not_the_script(environment: dict[str, str]) -> None:
    code = "import distill; print(distill.__file__)"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout
    assert output.strip().endswith(str(Path("distill") / "__init__.py"))


def test_importing_the_library_loads_no_heavy_package(environment: dict[str, str]) -> None:
    heavy = "{'torch', 'jieba', 'gensim', 'pandas'}"
    code = f"import sys, distill, distill.cli; print({heavy} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout
    assert output.strip() == "set()"


def test_save_config_and_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, other = str(tmp_path / "deep" / "mine.toml"), str(tmp_path / "other.toml")
    assert main(["--seeds", "3", "--mode", "tune", "--save_config", mine]) == 0
    assert capsys.readouterr().out == f"written: {mine}; use it with: python distill.py --config {mine}\n"
    assert main(["--config", mine, "--seeds", "4", "--save_config", other]) == 0
    assert settings("--config", other) == settings("--seeds", "4", "--mode", "tune")
    assert "none.toml: no such file or directory" in error_of(capsys, "--config", str(tmp_path / "none.toml"))
    for folder in ("", "/", str(tmp_path)):
        assert "this is a folder, a file is needed -> --save_config FILE" in error_of(capsys, "--save_config", folder)


def replace_command(monkeypatch: pytest.MonkeyPatch, mode: str, function: Callable[[Settings], list[Path]]) -> None:
    """Replace the function that runs a mode."""
    entry = MODES[mode]
    monkeypatch.setattr("distill.commands.run_mode" if entry.takes_run else entry.function.replace(":", "."), function)


def printing(path: Path) -> Callable[[Settings], list[Path]]:
    def command(settings: Settings) -> list[Path]:
        log.info("a message")
        print("an answer")
        return [path]

    return command


def test_answers_are_alone_on_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    written = f"\nwritten:\n  {tmp_path / 'file'}\n"
    for mode in ("predict", "serve"):
        replace_command(monkeypatch, mode, printing(tmp_path / "file"))
        assert main(["--mode", mode]) == 0
        assert capsys.readouterr() == ("an answer\n", f"a message\n{written}")
    replace_command(monkeypatch, "all", printing(tmp_path / "file"))
    assert main([]) == 0
    assert capsys.readouterr() == (f"a message\nan answer\n{written}", "")


def test_names_of_files_that_are_not_utf_8_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", stdout := io.TextIOWrapper(io.BytesIO(), "utf-8"))  # which is strict
    assert main(["--version"]) == 0
    print(os.fsdecode("新闻.csv".encode("gb18030")), file=stdout)


def test_only_the_first_process_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_command(monkeypatch, "all", printing(tmp_path))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([]) == 0
    assert capsys.readouterr() == ("an answer\n", "")


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def needs(package: str) -> Callable[[Settings], list[Path]]:
        def command(settings: Settings) -> list[Path]:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)

        return command

    for mode, extra in {"serve": "serve", "predict": "predict", "test": "train"}.items():
        replace_command(monkeypatch, mode, needs("thing.part"))
        text = error_of(capsys, "--mode", mode)
        hint = f'pip install "distill-zh[{extra}]" (in a clone of the repository: pip install -e ".[{extra}]")'
        assert text == f"error: --mode {mode} needs the package thing -> {hint}\n"
    replace_command(monkeypatch, "test", needs("distill.nowhere"))
    with pytest.raises(ModuleNotFoundError):
        main(["--mode", "test"])


@pytest.mark.skipif(not BASH, reason="bash is not installed")
def test_a_closed_pipe_is_not_an_error(environment: dict[str, str]) -> None:
    command = shlex.join([sys.executable, str(ROOT / "distill.py"), "--completion", "zsh"])
    pytest.importorskip("shtab", reason="needs shtab: pip install shtab")
    script = f"set -o pipefail; ({command}; echo code $? >&2) | true"
    ended = subprocess.run([BASH, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert ended.stderr == "code 141\n"


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_standard_output_is_one_line(
    buffered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("球队今天公布新消息\n", "utf-8")
    replace_command(monkeypatch, "export", printing(tmp_path))
    predict = f"--mode predict --bundle {ROOT / 'tests/fixtures/bundle'} --input {tmp_path / 'texts.txt'} --output -"
    for arguments in ("--help", predict, "--mode export", f"--save_config {tmp_path / 'settings.toml'}"):
        raw = FULL.open("wb", buffering=-1 if buffered else 0)  # not buffered: PYTHONUNBUFFERED, as in containers
        full = io.TextIOWrapper(raw, write_through=not buffered)
        monkeypatch.setattr("sys.stdout", full)
        assert main(arguments.split()) == 2
        *_, last = capsys.readouterr().err.splitlines()  # predict says before it how it reads the file
        assert last.startswith("error: standard output cannot be written: no space left on device -> ")
        if buffered:
            full.close()  # Python's last flush: raises if anything were left


@pytest.fixture(scope="module")
def scripts() -> Callable[[str], str]:
    pytest.importorskip("shtab", reason="needs shtab: pip install shtab")
    return completion


def in_bash(script: str, folder: Path, *words: str) -> list[str]:
    """bash's completions of the last word, with the script loaded."""
    ask = f"""
        complete -p distill >&2
        COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}
        $(complete -p distill | sed -E 's/.*-F ([^ ]+).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    asked = subprocess.run([BASH, "-c", script + ask], capture_output=True, text=True, check=True, cwd=folder)
    return sorted(asked.stdout.split())


@pytest.mark.skipif(not BASH, reason="bash is not installed")
def test_bash_completes(scripts: Callable[[str], str], tmp_path: Path) -> None:
    for name in ("texts.csv", "texts folder", "other.csv"):
        (tmp_path / name).mkdir() if "folder" in name else (tmp_path / name).write_text("")
    script = scripts("bash")
    assert in_bash(script, tmp_path, "distill", "--mo") == [
        "--mode",
        "--most_bytes",
        "--most_characters",
        "--most_texts",
        "--most_waiting",
    ]
    assert in_bash(script, tmp_path, "distill", "--mode", "train_") == ["train_student", "train_teacher"]
    assert in_bash(script, tmp_path, "distill", "--strict", "--prob") == ["--probabilities"]
    for flag in ("--data", "--unlabeled", "--input", "--config"):
        assert in_bash(script, tmp_path, "distill", flag, "oth") == ["other.csv"]
    assert in_bash(script, tmp_path, "distill", "--seeds", "oth") == []


@pytest.mark.skipif(not FISH, reason="fish is not installed")
def test_fish_completes(scripts: Callable[[str], str], tmp_path: Path) -> None:
    script = scripts("fish") + "\ncomplete -C 'distill --mode train_'"
    asked = subprocess.run([FISH, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert {line.split("\t")[0] for line in asked.stdout.splitlines()} == {"train_student", "train_teacher"}


def test_every_shell_has_a_script(scripts: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    for shell, begins in {"zsh": "#compdef distill", "tcsh": "#", "fish": "#", "bash": "#"}.items():
        assert main(["--completion", shell]) == 0
        printed = capsys.readouterr().out
        assert printed == scripts(shell) + "\n" and printed.startswith(begins) and "train_student" in printed


def test_completion_without_shtab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "--completion needs the package shtab -> pip install shtab" in error_of(capsys, "--completion", "bash")
    assert "invalid choice: 'dash'" in error_of(capsys, "--completion", "dash")


def test_package_data_lists_every_file_that_is_not_python() -> None:
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-data"]
    listed = {
        path
        for package, patterns in shipped.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {path for path in (ROOT / "distill").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".py"} == {path for path in listed if path.is_file()}
