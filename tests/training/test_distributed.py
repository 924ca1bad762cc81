"""One process alone, and groups of several: shares, sums, what the first says, and what happens when one stops."""

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

SEVERAL = multiprocessing.get_context("forkserver")  # one process imports PyTorch, the others are its copies
SEVERAL.set_forkserver_preload(["distill.training.trainer", "torch._dynamo"])  # the latter is what an optimizer imports

SECONDS = 200


def in_group(count: int, work: Callable[..., Any], *given: Any) -> list[Any]:
    """What ``work(*given)`` returns (no tensors, they would be shared with a process that ends), or raises, in each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    pipes = [SEVERAL.Pipe() for _ in range(count)]
    started = [
        SEVERAL.Process(target=member, args=(pipe[1], variables(place, count, port), work, given))
        for place, pipe in enumerate(pipes)
    ]
    for one in started:
        one.start()
    answers = [pipe[0].recv() if pipe[0].poll(SECONDS) else TimeoutError(f"no answer in {SECONDS} s") for pipe in pipes]
    for one in started:
        one.join(1)
        one.kill()
    return answers


def variables(place: int, count: int, port: str) -> dict[str, str]:
    """What a launcher sets."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
    return {**where, "RANK": str(place), "LOCAL_RANK": str(place), "WORLD_SIZE": str(count)}


def member(pipe: Any, environment: dict[str, str], work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        distributed.init_process_group()
        answer = work(*given)
        distributed.destroy_process_group()
    except Exception as error:
        answer = error
    pipe.send(answer)


def test_alone_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "3")  # without a group this says nothing
    values, parameter = torch.arange(5.0), nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    assert distributed.is_main_process() and not distributed.is_multi_process()
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    for same in (distributed.rows_of_this_rank, distributed.all_reduce_sum, distributed.broadcast_from_main):
        assert same(values).equal(torch.arange(5.0))
    distributed.all_reduce_gradients([parameter])
    distributed.barrier()
    with distributed.main_process_first():
        assert parameter.grad.tolist() == [1, 1]


@pytest.mark.parametrize(("rank", "world", "first"), [("0", "2", True), ("1", "2", False), ("1", "1", True)])
def test_who_is_first_is_read_from_the_environment(
    rank: str, world: str, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert distributed.is_main_process() is first and distributed.is_multi_process() is (world != "1")


def test_it_is_known_without_pytorch() -> None:
    module = "distill.training.distributed"
    code = f"import sys, {module} as d; d.is_main_process(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


def test_half_a_launcher_is_a_fault_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"RANK expected, but not set -> start them with accelerate launch or torchrun"):
        distributed.init_process_group()


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    distributed._select_gpu(1)
    assert taken == [1]
    with pytest.raises(UserError, match="more processes than GPUs: this machine has 2"):
        distributed._select_gpu(2)


def shares_and_sums() -> dict[str, Any]:
    place = distributed.rank()
    used, unused = nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(1))
    used.grad = torch.full((2, 3), float(place + 1))
    distributed.all_reduce_gradients([unused, used])
    return {
        "place": (place, distributed.world_size(), distributed.is_main_process()),
        "share": distributed.rows_of_this_rank(torch.arange(7)).tolist(),
        "total": distributed.all_reduce_sum(torch.tensor([place, 1])).tolist(),
        "first": distributed.broadcast_from_main(torch.tensor([place + 5])).tolist(),
        "nothing": distributed.broadcast_from_main(torch.empty(0)).tolist(),
        "gradients": (used.grad.unique().tolist(), unused.grad),
    }


def test_a_group_of_three() -> None:
    answers = in_group(3, shares_and_sums)
    assert [answer["place"] for answer in answers] == [(0, 3, True), (1, 3, False), (2, 3, False)]
    assert [answer["share"] for answer in answers] == [[0, 3, 6], [1, 4], [2, 5]]
    for answer in answers:
        assert answer["total"] == [3, 3] and answer["first"] == [5] and answer["nothing"] == []
        assert answer["gradients"] == ([6.0], None)


def first_then_others(folder: Path) -> int:
    with distributed.main_process_first():
        if distributed.is_main_process():
            time.sleep(0.3)
        there = len(list(folder.iterdir()))
        (folder / str(distributed.rank())).touch()
    return there


def test_the_first_goes_first(tmp_path: Path) -> None:
    first, *others = in_group(3, first_then_others, tmp_path)
    assert first == 0 and min(others) >= 1


def second_stops() -> None:
    if distributed.rank() == 1:
        raise UserError("this one fails")
    distributed.barrier()


def test_a_process_that_stops_does_not_leave_the_others_hanging() -> None:
    faults = in_group(2, second_stops)
    assert [str(fault) for fault in faults] == [
        "another process of this command has stopped -> see the message of that process",
        "this one fails",
    ]
