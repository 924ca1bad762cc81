"""The registry of modes: one entry is all that a mode needs."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import pytest

from distill.cli import main
from distill.commands.experiment import Run
from distill.config import MODES, Settings
from distill.config.modes import Mode
from distill.progress import log

ROOT = Path(__file__).parents[2]


def add_mode(monkeypatch: pytest.MonkeyPatch, function: Any, **entry: Any) -> None:
    """Register a mode ``toy`` as a module and one entry do."""
    module = ModuleType("toy_mode")
    module.run_toy = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_mode", module)
    monkeypatch.setitem(MODES, "toy", Mode("plays with the data", ("data",), "toy_mode:run_toy", **entry))


def test_a_mode_over_a_run_needs_one_entry(
    monkeypatch: pytest.MonkeyPatch, tiny_flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_toy(run: Run) -> list[Path]:
        log.info("%d train texts", len(run.data.train))
        path = tmp_path / "toy.txt"
        path.write_text("done")
        return [path]

    add_mode(monkeypatch, run_toy, trains=True)
    flags = [*tiny_flags, "--mode", "toy", "--run", str(tmp_path / "run")]
    assert main(flags) == 0
    printed = capsys.readouterr().out
    written = f"written:\n  {tmp_path / 'run' / 'config.json'}\n  {tmp_path / 'toy.txt'}\n"
    assert "81 train texts" in printed and printed.endswith(written)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "  toy            plays with the data\n" in capsys.readouterr().out
    assert main([*flags, "--save_config", str(tmp_path / "toy.toml")]) == 0
    assert '\nmode = "toy"\n' in (tmp_path / "toy.toml").read_text(encoding="utf-8")


def test_a_mode_over_the_settings_answers_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_toy(settings: Settings) -> list[Path]:
        log.info("a message")
        print(settings.run.mode)
        return []

    add_mode(monkeypatch, run_toy, takes_run=False, results_on_stdout=True)
    assert main(["--mode", "toy", "--run", str(tmp_path / "run")]) == 0
    assert capsys.readouterr() == ("toy\n", "a message\n")
    assert not (tmp_path / "run").exists()


def test_several_processes_do_the_shared_part_before_the_first_runs_the_mode(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(log.level, log.name)  # is restored after the test: the second process logs errors only
    called = []
    add_mode(monkeypatch, lambda run: called.append("mode") or [], all_processes="toy_mode:shared")
    sys.modules["toy_mode"].shared = lambda run: called.append("shared")  # type: ignore[attr-defined]
    monkeypatch.setattr("distill.training.distributed.init_process_group", lambda: called.append("begin"))
    monkeypatch.setattr("distill.training.distributed.destroy_process_group", lambda: called.append("end"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in (("0", ["begin", "shared", "end", "mode"]), ("1", ["begin", "shared", "end"])):
        called.clear()
        monkeypatch.setenv("RANK", rank)
        assert main(["--mode", "toy", "--run", str(tmp_path / "run")]) == 0
        assert called == expected


@pytest.mark.parametrize("mode", MODES)
def test_every_function_of_the_registry_exists(mode: str) -> None:
    entry = MODES[mode]
    assert callable(resolve_name(entry.function))
    assert not entry.all_processes or callable(resolve_name(entry.all_processes))
    assert entry.function.startswith(("distill.commands.", "distill.predict:", "distill.serve:"))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert entry.extra in extras


def test_modes_are_named_in_the_registry_only() -> None:
    """Neither the command line nor ``distill.commands`` has a list or a comparison with names of modes."""
    for name in ("distill/cli.py", "distill/__main__.py", "distill/commands/__init__.py", "distill/config/argparse.py"):
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not strings & set(MODES), name
