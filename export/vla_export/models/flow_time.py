"""How the flow's time enters a policy."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_export.models.linears import through


def sinusoid(time: Tensor, width: int, min_period: float, max_period: float) -> Tensor:
    """Sine-cosine embedding of a flow time, (B,) → (B, width), periods spaced evenly in their logarithm (openpi).

    Exact to float32 rounding without float64, which TensorRT lacks: at the shortest period an angle reaches 1,600 rad,
    where a float32 product is off by 1e-4. So time and frequency are split into a 12-bit head and a tail: the product
    of the heads is exact, its whole turns drop out, and the tails only add small numbers.
    """
    periods = min_period * (max_period / min_period) ** np.linspace(0.0, 1.0, width // 2)
    cycles = 1.0 / periods
    mantissa, exponent = np.frexp(cycles)
    head = np.ldexp(np.round(mantissa * 4096.0) / 4096.0, exponent)
    f_head = torch.tensor(head, dtype=torch.float32, device=time.device)
    f_tail = torch.tensor(cycles - head, dtype=torch.float32, device=time.device)
    t = time.float()[:, None]
    t_head = torch.round(t * 4096.0) / 4096.0
    t_tail = t - t_head
    turns = t_head * f_head
    turns = (turns - torch.round(turns)) + (t_head * f_tail + t_tail * f_head + t_tail * f_tail)
    angles = turns * (2.0 * math.pi)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def mixed_with_time(actions: Tensor, when: Tensor, mlp_in: nn.Module, mlp_out: nn.Module) -> Tensor:
    """Embedded actions (B, H, W) and their embedded flow time (B, W) or (1, W) as one sequence, as π0 mixes them."""
    both = torch.cat((actions, when[:, None, :].expand_as(actions)), dim=2)
    return through(mlp_out, F.silu(through(mlp_in, both)))
