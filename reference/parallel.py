"""Several processes that learn one thing: each on its share of every batch, their gradients averaged.

On a few CPU cores that is nearly as fast as there are cores; threads of one process give far less at this size.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn


def run_in_processes(count: int, work: Callable[[], object]) -> None:
    """Call ``work`` in so many processes of one thread each, or, where ``count`` is 1, here."""
    if count == 1:
        work()
        return
    with tempfile.TemporaryDirectory() as directory:
        spawn(_work, (count, f"file://{directory}/meeting", work), nprocs=count)  # type: ignore[no-untyped-call]  # torch


def _work(rank: int, count: int, meeting: str, work: Callable[[], object]) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=count)
    try:
        work()
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """Which of the processes this is; 0 is the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Give every process the mean of all processes' gradients."""
    if processes() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(together)
    together /= processes()
    parts = torch.split(together, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def agreed(number: float) -> float:
    """The first process's number, in all of them."""
    if processes() == 1:
        return number
    shared = torch.tensor(number, dtype=torch.float64)
    distributed.broadcast(shared, src=0)
    return float(shared)
