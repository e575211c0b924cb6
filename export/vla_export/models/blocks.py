"""Transformer blocks every family is made of; merging and pruning know nothing else.

A `Stack` is a named list of `Layer`; a layer is norm → attention → residual → norm → MLP → residual. Layers of one
stack may have different numbers of heads and channels, which is what pruning leaves behind.

The residual stream, norms, softmax and rotations are float32 whatever the type of the linears' weights, because Gemma's
residual stream overflows float16. With float32 weights every cast below is the identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Finite, and within float16: an infinite mask turns into NaN where a whole row is masked.
MASKED = -6.0e4

LayerKind = Literal["self", "joint", "cross"]


@dataclass(frozen=True)
class StackSize:
    """Widths of one stack; ``heads`` query heads share ``kv_heads`` keys and values of ``head_dim`` numbers."""

    depth: int
    width: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int


class RMSNorm(nn.Module):
    """Gemma's root-mean-square norm: x / rms(x) * (1 + weight), in float32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1.0 + self.weight.float())


class LayerNorm(nn.LayerNorm):
    """Layer norm computed and returned in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)


def rotation(positions: Tensor, head_dim: int, theta: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotary position embedding (arXiv 2104.09864), halves layout.

    positions: (B, T), any integer type. Returns two tensors of shape (B, 1, T, head_dim).
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device) / head_dim
    angles = positions.float()[:, None, :, None] * (1.0 / theta**exponents)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate ``x`` (B, heads, T, head_dim) by a `rotation`; built with ``cat``, which exports without scatters."""
    cos, sin = rope
    half = x.shape[-1] // 2
    x32 = x.float()
    turned = torch.cat((-x32[..., half:], x32[..., :half]), dim=-1)
    return (x32 * cos + turned * sin).to(x.dtype)


def linear_dtype(linear: nn.Module) -> torch.dtype:
    """The type a linear computes in, adapters included: that of its base weight."""
    return next(linear.parameters()).dtype


class Attention(nn.Module):
    """Multi-head attention with grouped queries; keys and values may come from elsewhere.

    Heads are rows of ``q_proj`` and columns of ``o_proj``, ``head_dim`` at a time; query head h reads key head
    h // (heads / kv_heads).
    """

    def __init__(self, width: int, heads: int, kv_heads: int, head_dim: int, bias: bool = False) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.q_proj = nn.Linear(width, heads * head_dim, bias=bias)
        self.k_proj = nn.Linear(width, kv_heads * head_dim, bias=bias)
        self.v_proj = nn.Linear(width, kv_heads * head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * head_dim, width, bias=bias)

    def project(self, x: Tensor, rope: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, width) → query (B, heads, T, head_dim), key and value (B, kv_heads, T, head_dim)."""
        b, t, _ = x.shape
        x = x.to(linear_dtype(self.q_proj))
        q = self.q_proj(x).view(b, t, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return q, k, v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (B, heads, T, head_dim) over k, v (B, kv_heads, S, head_dim) → (B, T, width).

        mask: additive, float32, broadcastable to (B, 1, T, S), or None where everything may be seen.
        """
        b, _, t, d = q.shape
        s = k.shape[2]
        groups = self.heads // self.kv_heads
        # One matrix product per key head serves its whole group of query heads, without repeating keys.
        q = (q * d**-0.5).reshape(b, self.kv_heads, groups * t, d)
        scores = (q @ k.transpose(2, 3)).float()
        if mask is not None:
            scores = (scores.view(b, self.kv_heads, groups, t, s) + mask[:, :, None]).view(b, self.kv_heads, -1, s)
        weights = scores.softmax(-1).to(v.dtype)
        out = (weights @ v).view(b, self.heads, t, d).transpose(1, 2).reshape(b, t, self.heads * d)
        return self.o_proj(out)


class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)); a channel is a row of gate and up and a column of down."""

    def __init__(self, width: int, channels: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, channels, bias=False)
        self.up_proj = nn.Linear(width, channels, bias=False)
        self.down_proj = nn.Linear(channels, width, bias=False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(linear_dtype(self.gate_proj))
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class MLP(nn.Module):
    """fc2(act(fc1(x))); a channel is a row of fc1 and a column of fc2."""

    def __init__(self, width: int, channels: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, channels)
        self.fc2 = nn.Linear(channels, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x.to(linear_dtype(self.fc1)))))


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation, as Gemma and SigLIP use it."""
    return F.gelu(x, approximate="tanh")


class Layer(nn.Module):
    """norm → attention → residual → norm → MLP → residual; ``kind`` says whose keys and values it reads.

    self: its own. joint: its own after those of a prefix. cross: a prefix's alone. The kind travels with the layer, so
    that removing others never changes what it reads.
    """

    def __init__(
        self, kind: LayerKind, input_norm: nn.Module, attention: Attention, post_norm: nn.Module, mlp: nn.Module
    ) -> None:
        super().__init__()
        self.kind: LayerKind = kind
        self.input_norm, self.attention, self.post_norm, self.mlp = input_norm, attention, post_norm, mlp

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, T, width), float32 → the same, and this layer's own keys and values (B, kv_heads, T, head_dim).

        past: keys and values seen before x's own. mask: additive over past and own, (B, 1, T, S).
        """
        q, k, v = self.attention.project(self.input_norm(x), rope)
        seen_k, seen_v = (k, v) if past is None else (torch.cat((past[0], k), 2), torch.cat((past[1], v), 2))
        x = x + self.attention.attend(q, seen_k, seen_v, mask).float()
        x = x + self.mlp(self.post_norm(x)).float()
        return x, (k, v)


class Stack(nn.Module):
    """A named list of layers of one width, and the norm after the last (None where nothing reads it)."""

    def __init__(self, name: str, width: int, layers: list[Layer], norm: nn.Module | None) -> None:
        super().__init__()
        self.name, self.width = name, width
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def __iter__(self) -> Iterator[Layer]:
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def __len__(self) -> int:
        return len(self.layers)


def gemma_stack(name: str, size: StackSize, kind: LayerKind, final_norm: bool) -> Stack:
    """Gemma's decoder layers (arXiv 2403.08295): RMS norms, grouped queries, gated MLP with tanh GELU."""
    layers = [
        Layer(
            kind,
            RMSNorm(size.width),
            Attention(size.width, size.heads, size.kv_heads, size.head_dim),
            RMSNorm(size.width),
            GatedMLP(size.width, size.mlp, gelu_tanh),
        )
        for _ in range(size.depth)
    ]
    return Stack(name, size.width, layers, RMSNorm(size.width) if final_norm else None)


def siglip_stack(name: str, size: StackSize) -> Stack:
    """SigLIP's encoder layers (arXiv 2303.15343): layer norms, biased attention without rotation, plain MLP."""
    layers = [
        Layer(
            "self",
            LayerNorm(size.width, eps=1e-6),
            Attention(size.width, size.heads, size.kv_heads, size.head_dim, bias=True),
            LayerNorm(size.width, eps=1e-6),
            MLP(size.width, size.mlp, gelu_tanh),
        )
        for _ in range(size.depth)
    ]
    return Stack(name, size.width, layers, LayerNorm(size.width, eps=1e-6))


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
