"""Groups of processes: shares, reductions, broadcasts, barriers, and a process that stops; and a single process."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill.errors import UserError
from distill.training import distributed

FORKSERVER = multiprocessing.get_context("forkserver")  # one process imports PyTorch, the others are forked from it
FORKSERVER.set_forkserver_preload(["distill.training.trainer", "torch._dynamo"])  # optimizers import the latter

TIMEOUT_S = 200


def in_group(count: int, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call ``work(*arguments)`` in every process of a group; return its results or exceptions by rank.

    Results must not be tensors, whose shared memory ends with the process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pipes = [FORKSERVER.Pipe() for _ in range(count)]
    processes = [
        FORKSERVER.Process(target=member, args=(pipe[1], environment_of(rank, count, port), work, arguments))
        for rank, pipe in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    results = [
        pipe[0].recv() if pipe[0].poll(TIMEOUT_S) else TimeoutError(f"no result in {TIMEOUT_S} s") for pipe in pipes
    ]
    for process in processes:
        process.join(1)
        process.kill()
    return results


def environment_of(rank: int, count: int, port: str) -> dict[str, str]:
    """The environment variables that a launcher sets."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
    return {**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}


def member(pipe: Any, environment: dict[str, str], work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        distributed.init_process_group()
        result = work(*arguments)
        distributed.destroy_process_group()
    except Exception as error:
        result = error
    pipe.send(result)


def test_a_single_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "3")  # ignored without WORLD_SIZE
    values, parameter = torch.arange(5.0), nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    assert distributed.is_main_process() and not distributed.is_multi_process()
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    for collective in (distributed.rows_of_this_rank, distributed.all_reduce_sum, distributed.broadcast_from_main):
        assert collective(values).equal(torch.arange(5.0))
    distributed.all_reduce_gradients([parameter])
    distributed.barrier()
    with distributed.main_process_first():
        assert parameter.grad.tolist() == [1, 1]


@pytest.mark.parametrize(("rank", "world_size", "is_main"), [("0", "2", True), ("1", "2", False), ("1", "1", True)])
def test_the_main_process_is_read_from_the_environment(
    rank: str, world_size: str, is_main: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world_size)
    assert distributed.is_main_process() is is_main and distributed.is_multi_process() is (world_size != "1")


def test_the_main_process_is_known_without_pytorch() -> None:
    module = "distill.training.distributed"
    code = f"import sys, {module} as d; d.is_main_process(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_incomplete_launcher_variables_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"RANK expected, but not set -> start them with accelerate launch or torchrun"):
        distributed.init_process_group()


def test_each_process_selects_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    selected: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", selected.append)
    distributed._select_gpu(1)
    assert selected == [1]
    with pytest.raises(UserError, match="more processes than GPUs: this machine has 2"):
        distributed._select_gpu(2)


def all_collectives() -> dict[str, Any]:
    rank = distributed.rank()
    used, unused = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(1))
    used.grad = torch.full((2, 3), float(rank + 1))
    distributed.all_reduce_gradients([unused, used])
    return {
        "rank": (rank, distributed.world_size(), distributed.is_main_process()),
        "share": distributed.rows_of_this_rank(torch.arange(7)).tolist(),
        "total": distributed.all_reduce_sum(torch.tensor([rank, 1])).tolist(),
        "from main": distributed.broadcast_from_main(torch.tensor([rank + 5])).tolist(),
        "empty": distributed.broadcast_from_main(torch.empty(0)).tolist(),
        "gradients": (used.grad.unique().tolist(), unused.grad),
    }


def test_a_group_of_three() -> None:
    results = in_group(3, all_collectives)
    assert [result["rank"] for result in results] == [(0, 3, True), (1, 3, False), (2, 3, False)]
    assert [result["share"] for result in results] == [[0, 3, 6], [1, 4], [2, 5]]
    for result in results:
        assert result["total"] == [3, 3] and result["from main"] == [5] and result["empty"] == []
        assert result["gradients"] == ([6.0], None)


def count_files_then_add_one(folder: Path) -> int:
    with distributed.main_process_first():
        if distributed.is_main_process():
            time.sleep(0.3)
        files = len(list(folder.iterdir()))
        (folder / str(distributed.rank())).touch()
    return files


def test_the_main_process_runs_a_block_first(tmp_path: Path) -> None:
    first, *others = in_group(3, count_files_then_add_one, tmp_path)
    assert first == 0 and min(others) >= 1


def second_process_fails() -> None:
    if distributed.rank() == 1:
        raise UserError("this one fails")
    distributed.barrier()


def test_a_process_that_fails_does_not_leave_the_others_waiting() -> None:
    errors = in_group(2, second_process_fails)
    assert [str(error) for error in errors] == [
        "another process of this command has stopped -> see the message of that process",
        "this one fails",
    ]
