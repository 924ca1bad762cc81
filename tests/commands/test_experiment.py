"""A run: constructing it changes nothing; ``prepare`` gets the process ready for a command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.commands.experiment import Run, prepare
from distill.config import DataSettings, RunSettings, Settings
from distill.errors import UserError


def test_only_prepare_changes_the_process_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leftover = tmp_path / ".teacher.abc.distill-aside"
    leftover.mkdir()
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    run = Run(Settings(RunSettings(run=str(tmp_path), threads=3)))
    assert leftover.exists() and threads == []
    prepare(run)
    assert not leftover.exists() and threads == [3]


def test_only_prepare_reads_the_users_dictionary(tmp_path: Path) -> None:
    run = Run(Settings(RunSettings(run=str(tmp_path)), DataSettings(user_dict=str(tmp_path / "nowhere.txt"))))
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        prepare(run)
