"""A linear whose branch has become an affine map: folded into its weight for good, or tried beside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_export.adapters.least_squares import Affine
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_fit import routed_linears
from vla_export.graph.precision import to_half
from vla_export.models.flow_model import FlowModel


def folded(path: str, linear: RoutedLinear, affine: Affine) -> nn.Linear:
    """A plain linear y = (W + B K) x + b + B k, in the type of W, computed in float32 and rounded once.

    It has a bias, even where the linear had none. affine: K and k. path: for messages. Raises WorkFailed where W is
    float16 and the sum cannot be.
    """
    weight, bias = _sum(linear, affine)
    dtype = linear.base.weight.dtype
    plain = nn.Linear(linear.in_features, linear.out_features, device="meta")
    plain.weight = nn.Parameter(_rounded(f"{path}.weight", weight, dtype), requires_grad=False)
    plain.bias = nn.Parameter(_rounded(f"{path}.bias", bias, dtype), requires_grad=False)
    return plain


def _sum(linear: RoutedLinear, affine: Affine) -> tuple[Tensor, Tensor]:
    """W + B K and b + B k, float32."""
    base, B = linear.base, linear.branch.B.float()
    offset = B @ affine.offset
    weight = torch.addmm(base.weight.float(), B, affine.matrix)
    return weight, offset if base.bias is None else base.bias.float() + offset


def _rounded(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return to_half(name, tensor) if dtype is torch.float16 else tensor.to(dtype)


def replace(model: FlowModel, path: str, module: nn.Module) -> None:
    """Put ``module`` where ``path`` leads, in place of what is there."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


class SwitchedLinear(nn.Module):
    """A routed linear whose branch can be switched to its affine map and back, without a second copy of W.

    What it computes in float32, `folded` computes, rounding of a stored float16 weight included.
    """

    def __init__(self, exact: RoutedLinear, affine: Affine) -> None:
        super().__init__()
        self.exact, self.affine = exact, affine
        self.stored = exact.base.weight.dtype
        self.static = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.static:
            return self.exact(x)
        if self.stored is not torch.float32:
            weight, bias = (part.to(self.stored).to(x.dtype) for part in _sum(self.exact, self.affine))
            return F.linear(x, weight, bias)
        base = self.exact.base
        update = F.linear(F.linear(x, self.affine.matrix, self.affine.offset), self.exact.up.weight)
        return F.linear(x, base.weight, base.bias) + update


Switch = Callable[[Collection[str]], None]


@contextmanager
def switched(model: FlowModel, affines: Mapping[str, Affine]) -> Iterator[Switch]:
    """While the context lasts, any routed linears of ``model`` can be static: the function given says which are.

    affines: of every routed linear, by path. Afterwards the model is what it was.
    """
    linears = {path: SwitchedLinear(routed, affines[path]) for path, routed in routed_linears(model).items()}

    def switch(static: Collection[str]) -> None:
        for path, linear in linears.items():
            linear.static = path in static

    try:
        for path, linear in linears.items():
            replace(model, path, linear)
        yield switch
    finally:
        for path, linear in linears.items():
            replace(model, path, linear.exact)
