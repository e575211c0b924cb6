"""A linear with an input-conditional branch, kept exact and cheap in an exported graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_export.adapters.adapter import Branch
from vla_export.graph.precision import to_half


class RoutedLinear(nn.Module):
    """y = W x + b + B ((A x) ⊙ gates), with gates = gating(R x).

    x: (…, in) → y: (…, out), in the type of W; gating is float32.

    ``base`` is W and b, ``down`` is [A; R] stacked, (directions + scores, in), and ``up`` is B: plain linears, which is
    what changes of precision look for. W is not stacked with them: its rows of the product would have to be copied
    apart again, which in ONNX Runtime costs more than one product saves.

    Raises `WorkFailed` where W is float16 and the branch cannot be.
    """

    def __init__(self, base: nn.Linear, branch: Branch) -> None:
        super().__init__()
        dtype = base.weight.dtype
        self.base = _linear(base.weight, base.bias)
        self.down = _linear(torch.cat((_cast("A", branch.A, dtype), _cast("R", branch.router, dtype))))
        self.up = _linear(_cast("B", branch.B, dtype))
        self.gating = branch.gating
        self.out_features, self.in_features = base.out_features, base.in_features

    def forward(self, x: Tensor) -> Tensor:
        down, scores = self.down(x).split(self._rows, dim=-1)
        gated = down.float() * self.gating(scores.float())
        y: Tensor = self.base(x) + self.up(gated.to(x.dtype))
        return y

    @property
    def directions(self) -> int:
        """How many directions the branch gates."""
        return self.gating.directions

    @property
    def branch(self) -> Branch:
        """The branch in the type of W; the numbers are shared, not copied."""
        A, router = self.down.weight.split(self._rows)
        return Branch(A, self.up.weight, router, self.gating)

    @property
    def _rows(self) -> tuple[int, int]:
        return self.gating.directions, self.gating.scores


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return to_half(f"an adapter's {name}", tensor) if dtype is torch.float16 else tensor.to(dtype)
