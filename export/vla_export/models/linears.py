"""Linears whose weights may be of another type than what they are given."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def linear_dtype(linear: nn.Module) -> torch.dtype:
    """The type a linear computes in, adapters included: that of its base weight."""
    return next(linear.parameters()).dtype


def through(linear: nn.Module, x: Tensor) -> Tensor:
    """A linear's output for ``x``, computed in the linear's type and returned in float32."""
    out: Tensor = linear(x.to(linear_dtype(linear)))
    return out.float()
