"""Links in the inputs of --mode predict: none leads out of a folder, and no file is labelled twice."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from distill.config import DataSettings, PredictSettings
from distill.data import load
from distill.errors import UserError
from distill.predict.plan import find_files, plan_jobs

ROWS = "text,label\n" + "".join(f"第{number}条,{'甲乙'[number % 2]}\n" for number in range(40))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two files, links within it, out of it, and in circles."""
    folder, private = tmp_path / "in", tmp_path / "private"
    for path in (folder / "sub" / "b.csv", folder / "a.csv", private / "secret.csv"):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("text\n好\n")
    (folder / "0.csv").symlink_to("a.csv")
    (folder / "sub" / "c.csv").symlink_to(folder / "a.csv")
    (folder / "out.csv").symlink_to(private / "secret.csv")
    (folder / "sub" / "up.csv").symlink_to("../../private/secret.csv")
    (folder / "elsewhere").symlink_to(private)
    (folder / "gone.csv").symlink_to("nowhere.csv")
    (folder / "self.csv").symlink_to("self.csv")
    for name in ("loop", "again", "sub/loop"):
        (folder / name).symlink_to(folder)
    return folder


@pytest.mark.parametrize("pattern", ["", "**/*.csv", "**", "**/**/*.csv"])
def test_links_out_of_a_folder_are_not_followed(pattern: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        base, files = find_files(str(folder / pattern))
    assert base == folder and files == [folder / "a.csv", folder / "sub" / "b.csv"]
    (message,) = caplog.messages
    expected = f"{folder}: links out of this folder are not followed: {folder}/elsewhere, {folder}/out.csv, "
    assert message == f"{expected}{folder}/sub/up.csv (--input FILE reads such a file)"


def test_a_pattern_may_not_lead_out_either(folder: Path) -> None:
    (folder / "sub").rename(folder / "other")
    with pytest.raises(UserError, match="no such file"):
        find_files(str(folder / "else*" / "*.csv"))
    assert find_files(str(folder / "*.csv"))[1] == [folder / "a.csv"]


def test_what_the_user_names_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert find_files(str(folder / "out.csv")) == (None, [folder / "out.csv"])
    assert find_files(str(tmp_path / "link"))[1] == [tmp_path / "link" / "a.csv", tmp_path / "link" / "sub" / "b.csv"]
    jobs = plan_jobs(PredictSettings(input=(str(folder / "out.csv"), str(folder)), output=str(tmp_path / "labelled")))
    assert [job.source for job in jobs] == [folder / "out.csv", folder / "a.csv", folder / "sub" / "b.csv"]


def test_a_cache_of_the_hub_is_a_folder_of_links(tmp_path: Path) -> None:
    """Its files link to blobs/, which is next to snapshots/; training follows the links of every folder."""
    snapshot, blobs = tmp_path / "cache" / "snapshots" / "0a1b", tmp_path / "cache" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "c0ffee").write_text(ROWS)
    (snapshot / "train.csv").symlink_to("../../blobs/c0ffee")
    assert find_files(str(snapshot))[1] == [snapshot / "train.csv"]
    assert load(DataSettings(data=str(snapshot)), 0).counts["train_rows_read"] == 40
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").symlink_to(blobs / "c0ffee")
    assert load(DataSettings(data=str(tmp_path / "data")), 0).counts["train_rows_read"] == 40


def test_a_split_reads_a_linked_file_once(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "b.csv").write_text(ROWS)
    (tmp_path / "train" / "a.csv").symlink_to("b.csv")
    assert load(DataSettings(data=str(tmp_path)), 0).counts["train_rows_read"] == 40
