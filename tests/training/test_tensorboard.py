"""Training curves for TensorBoard, read back with TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill import errors
from distill.cli import main
from distill.errors import UserError, install_hint
from distill.training import tensorboard
from distill.training.trainer import Evaluation


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The curves that TensorBoard reads from a folder: name -> (step, value) of every point."""
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -r requirements-dev.txt")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [(point.step, point.value) for point in events.Scalars(name)] for name in events.Tags()["scalars"]}


def evaluation(step: int) -> Evaluation:
    return Evaluation(step, step / 10, 0.5 + step / 100, 1 / step, {"logits": 2.0 / step, "labels": 0.25}, 1e-3, 1.0)


def test_every_value_is_written_at_its_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -r requirements-dev.txt")
    write = tensorboard.evaluation_writer(tmp_path / "student")
    for step in (10, 20):
        write(evaluation(step))
    written = curves(tmp_path / "student")  # while the writer is still open
    assert {name: [step for step, _ in points] for name, points in written.items()} == {
        name: [10, 20] for name in ("dev/accuracy", "dev/loss", "train/logits", "train/labels", "learning_rate")
    }
    assert [value for _, value in written["dev/accuracy"]] == pytest.approx([0.6, 0.7])
    assert [value for _, value in written["dev/loss"]] == pytest.approx([0.1, 0.05])
    assert [value for _, value in written["train/logits"]] == pytest.approx([0.2, 0.1])
    assert [value for _, value in written["learning_rate"]] == pytest.approx([1e-3, 1e-3])


def test_a_second_training_replaces_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -r requirements-dev.txt")
    tensorboard.evaluation_writer(tmp_path)(evaluation(10))
    tensorboard.evaluation_writer(tmp_path)(evaluation(5))
    assert [step for step, _ in curves(tmp_path)["dev/loss"]] == [5]


def test_a_run_writes_its_curves(tmp_path: Path, tiny_flags: list[str]) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -r requirements-dev.txt")
    flags = [*tiny_flags, "--run", str(tmp_path), "--student_epochs", "2", "--a", "1", "--T", "0"]
    assert main([*flags, "--mode", "train_student", "--tensorboard"]) == 0
    logged = [json.loads(line) for line in (tmp_path / "student_alone" / "log.jsonl").read_text().splitlines()]
    written = curves(tmp_path / "tensorboard" / "student_alone")
    assert [step for step, _ in written["dev/accuracy"]] == [line["step"] for line in logged]
    assert [value for _, value in written["dev/accuracy"]] == pytest.approx([line["dev_accuracy"] for line in logged])
    assert set(written) >= {"train/labels", "learning_rate"}


def test_the_missing_package_is_reported_before_any_work(
    tmp_path: Path, tiny_flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda _: None)
    assert main([*tiny_flags, "--run", str(tmp_path / "run"), "--tensorboard"]) == 2
    message = f"error: --tensorboard needs the package tensorboard -> {install_hint('track')}\n"
    assert capsys.readouterr().err == message and not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="needs the package tensorboard"):
        tensorboard.evaluation_writer(tmp_path)
