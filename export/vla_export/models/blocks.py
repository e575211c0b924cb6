"""Transformer blocks every family is made of; merging and pruning know nothing else.

A `Stack` is a named list of `Layer`; a layer is norm → attention → residual → norm → MLP → residual. Layers of one
stack may have different numbers of heads and channels, which is what pruning leaves behind.

The residual stream, norms, softmax and rotations are float32 whatever the type of the linears' weights, because Gemma's
residual stream overflows float16. With float32 weights every cast below is the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_export.models.attention import Attention, Memory
from vla_export.models.linears import linear_dtype
from vla_export.models.norms import AdaptiveRMSNorm, LayerNorm, RMSNorm

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

        past: keys and values seen before x's own; all that a cross layer reads, and what it returns for its own. mask:
        additive over past and own, (B, 1, T, S).
        """
        attended, own = self.read(self.input_norm(x), rope, mask, past)
        x = x + attended
        x = x + self.mlp(self.post_norm(x)).float()
        return x, own

    def read(
        self,
        normed: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The attention of `forward`, from the normed x to what it adds to the residual stream, float32."""
        if self.kind == "cross":
            if past is None:
                raise ValueError("a cross layer reads a prefix's keys and values and was given none")
            return self.attention.attend(self.attention.query(normed, rope), *past, mask).float(), past
        q, k, v = self.attention.project(normed, rope)
        seen_k, seen_v = (k, v) if past is None else (torch.cat((past[0], k), 2), torch.cat((past[1], v), 2))
        return self.attention.attend(q, seen_k, seen_v, mask).float(), (k, v)


class AdaptiveLayer(Layer):
    """A layer whose norms follow a condition, and so does how much attention and MLP add to the residual stream."""

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `Layer.forward`; condition: (B, width) or (1, width), which it cannot do without."""
        normed, gate = self.input_norm(x, condition)
        attended, own = self.read(normed, rope, mask, past)
        x = x + gate * attended
        normed, gate = self.post_norm(x, condition)
        x = x + gate * self.mlp(normed).float()
        return x, own


class MemoryLayer(Layer):
    """What is left of a layer that no longer changes x, but whose keys and values another stack still reads.

    It has a norm and a `Memory`, neither queries nor an MLP (Drop-Then-Recovery, arXiv 2606.27755).
    """

    def __init__(self, layer: Layer) -> None:
        nn.Module.__init__(self)
        self.kind = layer.kind
        self.input_norm, self.attention = layer.input_norm, Memory(layer.attention)

    def forward(
        self,
        x: Tensor,
        rope: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `Layer.forward`; x comes back as it is."""
        return x, self.attention.memory(self.input_norm(x), rope)


class Stack(nn.Module):
    """A named list of layers of one width, and the norm after the last (None where nothing reads it).

    Layers that another stack reads may be a `MemoryLayer`, which has neither queries nor an MLP.
    """

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
        Layer(kind, RMSNorm(size.width), _attention(size), RMSNorm(size.width), _gated(size, gelu_tanh))
        for _ in range(size.depth)
    ]
    return Stack(name, size.width, layers, RMSNorm(size.width) if final_norm else None)


def adaptive_gemma_stack(name: str, size: StackSize, kind: LayerKind) -> Stack:
    """Gemma's decoder layers and final norm, every norm adaptive (arXiv 2504.16054)."""
    layers: list[Layer] = [
        AdaptiveLayer(
            kind, AdaptiveRMSNorm(size.width), _attention(size), AdaptiveRMSNorm(size.width), _gated(size, gelu_tanh)
        )
        for _ in range(size.depth)
    ]
    return Stack(name, size.width, layers, AdaptiveRMSNorm(size.width))


def llama_stack(
    name: str, size: StackSize, kinds: Sequence[LayerKind], final_norm: bool, memory_width: int | None = None
) -> Stack:
    """Llama's decoder layers (arXiv 2302.13971), one per kind: RMS norms, grouped queries, gated MLP with SiLU.

    memory_width: numbers per token of the keys (or values), all heads together, that cross layers `remember`.
    """

    def norm() -> RMSNorm:
        return RMSNorm(size.width, eps=1e-5, offset=0.0)

    layers = [
        Layer(
            kind,
            norm(),
            _attention(size, memory_width=memory_width if kind == "cross" else None),
            norm(),
            _gated(size, F.silu),
        )
        for kind in kinds
    ]
    return Stack(name, size.width, layers, norm() if final_norm else None)


def siglip_stack(name: str, size: StackSize) -> Stack:
    """SigLIP's encoder layers (arXiv 2303.15343): layer norms, biased attention without rotation, plain MLP."""

    def norm() -> LayerNorm:
        return LayerNorm(size.width, eps=1e-6)

    layers = [
        Layer("self", norm(), _attention(size, bias=True), norm(), MLP(size.width, size.mlp, gelu_tanh))
        for _ in range(size.depth)
    ]
    return Stack(name, size.width, layers, norm())


def _attention(size: StackSize, bias: bool = False, memory_width: int | None = None) -> Attention:
    return Attention(size.width, size.heads, size.kv_heads, size.head_dim, bias, memory_width)


def _gated(size: StackSize, activation: Callable[[Tensor], Tensor]) -> GatedMLP:
    return GatedMLP(size.width, size.mlp, activation)
