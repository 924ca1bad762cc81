"""A run: constructing it changes nothing; ``prepared`` gets the process ready for a command and locks its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from distill.commands.experiment import Run, prepared
from distill.config import DataSettings, RunSettings, Settings
from distill.errors import UserError


def test_only_prepared_changes_the_process_and_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leftover = tmp_path / ".teacher.abc.distill-aside"
    leftover.mkdir()
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    run = Run(Settings(RunSettings(run=str(tmp_path), threads=3)))
    assert leftover.exists() and threads == []
    with prepared(run):
        assert not leftover.exists() and threads == [3]


def test_only_prepared_reads_the_users_dictionary(tmp_path: Path) -> None:
    run = Run(Settings(RunSettings(run=str(tmp_path)), DataSettings(user_dict=str(tmp_path / "nowhere.txt"))))
    with pytest.raises(UserError, match=r"nowhere\.txt"), prepared(run):
        pass


def test_a_second_command_in_the_same_folder_is_refused_and_cleans_nothing(tmp_path: Path) -> None:
    root = tmp_path / "run"
    first, second = (Run(Settings(RunSettings(run=str(path)))) for path in (root, tmp_path / "link"))
    (tmp_path / "link").symlink_to(root)
    with prepared(first):
        (unfinished := root / ".teacher.abc.distill-aside").mkdir()
        with pytest.raises(UserError, match=rf"process {os.getpid()} on .*since .*--run"), prepared(second):
            pass
        assert unfinished.exists()
    with prepared(second):
        assert not unfinished.exists()


def test_a_command_that_fails_early_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="early"), prepared(Run(Settings(RunSettings(run=str(tmp_path / "typo"))))):
        raise ValueError("early")
    assert not (tmp_path / "typo").exists()
