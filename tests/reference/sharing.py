"""What a process of `test_parallel` does; in a module that a spawned process can import."""

from __future__ import annotations

from pathlib import Path

import torch

from reference.parallel import agreed, average_gradients, processes, rank


def share(directory: Path) -> None:
    """Average a gradient of (rank + 1, 2 (rank + 1)) and agree on 10 + rank; write down what came of it."""
    first, second, unused = (torch.zeros(n, requires_grad=True) for n in (1, 1, 3))
    first.grad, second.grad = torch.full((1,), 1.0 + rank()), torch.full((1,), 2.0 * (1.0 + rank()))
    average_gradients([first, unused, second])
    assert unused.grad is None
    found = (processes(), float(first.grad), float(second.grad), agreed(10.0 + rank()))
    (directory / str(rank())).write_text(repr(found))
