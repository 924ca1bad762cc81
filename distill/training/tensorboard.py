"""Training curves for TensorBoard, an optional package; the only module that imports it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from distill.errors import install_hint, require_package
from distill.training.trainer import Evaluation


def require_tensorboard() -> None:
    """Check that TensorBoard is installed, before any training starts.

    Raises:
        UserError: the package tensorboard is not installed.
    """
    require_package("tensorboard", "--tensorboard", install_hint("track"))


def evaluation_writer(folder: Path) -> Callable[[Evaluation], None]:
    """Return a function that writes each evaluation into ``folder``; delete the curves of an earlier training there.

    Raises:
        UserError: the package tensorboard is not installed.
    """
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    for earlier in folder.glob("events.out.tfevents.*"):
        earlier.unlink()  # TensorBoard would join both trainings into one zigzag curve
    writer = SummaryWriter(folder)

    def write(evaluation: Evaluation) -> None:
        for name, value in scalars(evaluation).items():
            writer.add_scalar(name, value, evaluation.step)
        writer.flush()  # at once: evaluations are rare, and the writer is never closed

    return write


def scalars(evaluation: Evaluation) -> dict[str, float]:
    """The points that one evaluation adds, by the name of their curve."""
    return {
        "dev/accuracy": evaluation.dev_accuracy,
        "dev/loss": evaluation.dev_loss,
        **{f"train/{name}": loss for name, loss in evaluation.train_loss.items()},
        "learning_rate": evaluation.learning_rate,
    }
