"""Data-parallel training in several processes, as ``accelerate launch`` and ``torchrun`` start them.

Between :func:`init_process_group` and :func:`destroy_process_group` every process must call the collective functions
below in the same order. Outside a group, a process has rank 0 in a world of size 1, and the collectives return their
argument unchanged.
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

PEER_TIMEOUT = timedelta(days=2)  # the shares are equal, but one GPU may be much slower than another


def is_multi_process() -> bool:
    """Whether a launcher started this command in several processes (``WORLD_SIZE`` is set and not 1)."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_main_process() -> bool:
    """Whether this process prints and writes files; needs neither PyTorch nor a group."""
    return not is_multi_process() or os.environ.get("RANK", "0") == "0"


def init_process_group() -> None:
    """Connect to the other processes: gloo for tensors in memory, NCCL for tensors on GPUs. Each takes its own GPU.

    Raises:
        UserError: the machine has too few GPUs, or the launcher's environment variables do not lead to the others.
    """
    import torch
    import torch.distributed as dist

    has_gpu = torch.cuda.is_available()
    try:
        if has_gpu:
            _select_gpu(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo", timeout=PEER_TIMEOUT)
    except (ValueError, RuntimeError, KeyError) as error:
        hint = "start them with accelerate launch or torchrun; to use one process only, unset WORLD_SIZE"
        raise UserError(f"the processes cannot connect to each other: {error}", "WORLD_SIZE", hint) from error


def _select_gpu(local_rank: int) -> None:
    """Let "cuda" mean the GPU of this local rank from now on."""
    import torch

    gpus = torch.cuda.device_count()
    if local_rank >= gpus:
        raise UserError(f"more processes than GPUs: this machine has {gpus}", "--num_processes", f"at most {gpus}")
    torch.cuda.set_device(local_rank)


def destroy_process_group() -> None:
    """Wait for the other processes, then leave the group.

    Do not call it after an error: it would wait for the others, and the launcher stops them anyway.
    """
    import torch.distributed as dist

    barrier()
    dist.destroy_process_group()


def world_size() -> int:
    """Number of processes in the group; 1 without a group."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process in the group, from 0; 0 without a group."""
    import torch.distributed as dist

    return dist.get_rank() if world_size() > 1 else 0


def rows_of_this_rank(rows: Tensor) -> Tensor:
    """This process's share of ``rows`` (rows,): every world_size-th row, starting at rank.

    A batch is sorted by length, so strided shares have similar lengths.
    """
    return rows[rank() :: world_size()]


def all_reduce_sum(values: Tensor) -> Tensor:
    """Replace ``values``, in place, by their sum over the processes; every process gets the same bits."""
    import torch.distributed as dist

    if world_size() > 1:
        with _report_stopped_peer():
            dist.all_reduce(values)
    return values


def broadcast_from_main(values: Tensor) -> Tensor:
    """Replace ``values``, in place, by those of rank 0; shape and dtype must be the same in every process."""
    import torch.distributed as dist

    if world_size() > 1:
        with _report_stopped_peer():
            dist.broadcast(values, 0)
    return values


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its sum over the processes; all must have gradients of the same parameters."""
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    if world_size() > 1:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        vector_to_parameters(all_reduce_sum(parameters_to_vector(gradients)), gradients)


def barrier() -> None:
    """Wait until every process has called this."""
    import torch

    all_reduce_sum(torch.zeros(1))  # in memory, so over gloo: NCCL's barrier keeps a GPU busy


@contextlib.contextmanager
def main_process_first() -> Iterator[None]:
    """Run the block in rank 0 first and in the others afterwards, for example to fill a cache once."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


@contextlib.contextmanager
def _report_stopped_peer() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            "another process of this command has stopped", None, "see the message of that process"
        ) from error
