"""Training curves for TensorBoard, where it is installed; the only module that imports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distill.errors import need
from distill.training.trainer import Evaluation


def check() -> None:
    """Refuse --tensorboard where it cannot be done, before a training starts.

    Raises:
        UserError: the package tensorboard is not installed.
    """
    need("tensorboard", "--tensorboard", "pip install -r requirements-track.txt")


def watcher(folder: Path) -> Callable[[Evaluation], None]:
    """Write every evaluation into ``folder`` as it comes; curves of an earlier training there are removed.

    Raises:
        UserError: the package tensorboard is not installed.
    """
    check()
    from torch.utils.tensorboard import SummaryWriter

    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()  # TensorBoard would draw both trainings as one zigzag
    writer = SummaryWriter(folder)

    def write(evaluation: Evaluation) -> None:
        for name, value in scalars(evaluation).items():
            writer.add_scalar(name, value, evaluation.step)
        writer.flush()  # evaluations are rare, and nobody says when training ends

    return write


def scalars(evaluation: Evaluation) -> dict[str, float]:
    """The curves that an evaluation adds a point to."""
    return {
        "dev/accuracy": evaluation.dev_accuracy,
        "dev/loss": evaluation.dev_loss,
        **{f"train/{name}": loss for name, loss in evaluation.train_loss.items()},
        "learning_rate": evaluation.learning_rate,
    }
