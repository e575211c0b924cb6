"""Norms, computed and returned in float32 whatever they are given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_export.models.linears import through


def unit_rms(x: Tensor, eps: float) -> Tensor:
    """x / rms(x) over the last axis (arXiv 1910.07467), float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class RMSNorm(nn.Module):
    """x / rms(x) * (offset + weight): Gemma stores its weights less an offset of 1, Llama as they are."""

    def __init__(self, width: int, eps: float = 1e-6, offset: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 1.0 - offset))
        self.eps, self.offset = eps, offset

    def forward(self, x: Tensor) -> Tensor:
        return unit_rms(x, self.eps) * (self.offset + self.weight.float())


class AdaptiveRMSNorm(nn.Module):
    """x / rms(x) * (1 + scale) + shift, where a condition decides scale, shift and a gate (openpi's AdaRMS).

    The gate is for the residual that follows: it says how much of what is computed from the norm is added to x.
    """

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.dense = nn.Linear(width, 3 * width)
        self.eps = eps

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, width), condition (B, width) or (1, width) → the normed x and the gate (B or 1, 1, width)."""
        modulation = through(self.dense, condition)[:, None, :]
        scale, shift, gate = modulation.chunk(3, dim=-1)
        return unit_rms(x, self.eps) * (1.0 + scale) + shift, gate


class LayerNorm(nn.LayerNorm):
    """Layer norm computed and returned in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
