"""One command in several processes, as accelerate launch and torchrun start it: who does what, and how they agree.

Between :func:`begin` and :func:`end` the processes are a group, in which every one calls the functions below in the
same order. Outside of it a process is alone: it has every share, and the functions give back what they are given.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from distill.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

LONGEST_WAIT = timedelta(days=2)  # of one for another: shares are equal, but a GPU may be much slower than the next


def are_several() -> bool:
    """Whether this command was started as one of several processes."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_first() -> bool:
    """Whether this process is the one that speaks and writes for all; true of one that was started alone."""
    return not are_several() or os.environ.get("RANK", "0") == "0"


def begin() -> None:
    """Meet the other processes: over gloo for what is in memory, over NCCL for what is on GPUs; each takes one GPU.

    Raises:
        UserError: there is no such GPU, or the launcher's variables do not lead to the others.
    """
    import torch
    import torch.distributed as dist

    gpu = torch.cuda.is_available()
    try:
        if gpu:
            _take_gpu(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=LONGEST_WAIT)
    except (ValueError, RuntimeError, KeyError) as error:
        hint = "accelerate launch or torchrun starts them; for one process alone unset WORLD_SIZE"
        raise UserError(f"the processes do not find each other: {error}", "WORLD_SIZE", hint) from error


def _take_gpu(place: int) -> None:
    """From here on "cuda" means this GPU."""
    import torch

    there = torch.cuda.device_count()
    if place >= there:
        what = f"this machine has {there} GPUs, and more processes than these"
        raise UserError(what, "--num_processes", "one process for each GPU")
    torch.cuda.set_device(place)


def end() -> None:
    """Part again. After a fault this is left out: it would wait for the others, and the launcher ends them anyway."""
    import torch.distributed as dist

    wait()
    dist.destroy_process_group()


def count() -> int:
    """How many processes there are in the group."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def place() -> int:
    """Which one of the group this is; the first is 0."""
    import torch.distributed as dist

    return dist.get_rank() if count() > 1 else 0


def share(rows: Tensor) -> Tensor:
    """This process's rows of (rows,): every world_size-th from its rank on, for similar lengths."""
    return rows[place() :: count()]


def total(values: Tensor) -> Tensor:
    """The sum over the processes, in place; the same bits in each."""
    import torch.distributed as dist

    if count() > 1:
        with _others_may_stop():
            dist.all_reduce(values)
    return values


def from_first(values: Tensor) -> Tensor:
    """The first process's values, in place; shape and dtype must be the same in each."""
    import torch.distributed as dist

    if count() > 1:
        with _others_may_stop():
            dist.broadcast(values, 0)
    return values


def total_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its sum over the processes; all must have gradients of the same parameters."""
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    if count() > 1:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        vector_to_parameters(total(parameters_to_vector(gradients)), gradients)


def wait() -> None:
    """Go on when every process is here."""
    import torch

    total(torch.zeros(1))  # in memory, so over gloo: NCCL's barrier keeps a GPU busy


@contextlib.contextmanager
def first_goes_first() -> Iterator[None]:
    """The first process does the block, then the others: for what is written once and found from then on."""
    if place() > 0:
        wait()
    yield
    if place() == 0:
        wait()


@contextlib.contextmanager
def _others_may_stop() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError("another process of this command has stopped", None, "its own message says why") from error
