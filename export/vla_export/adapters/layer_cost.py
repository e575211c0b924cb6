"""What a linear costs with its branch beside it, and what it would cost without."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from vla_export.adapters.routed_linear import RoutedLinear


class LayerCost(BaseModel):
    """What one adapted linear costs: FLOPs per token, bytes of weights; ``tokens`` pass per chunk, padding included."""

    model_config = ConfigDict(frozen=True)

    tokens: float
    flops_exact: int
    flops_static: int
    bytes_exact: int
    bytes_static: int


def layer_cost(linear: RoutedLinear, tokens: float) -> LayerCost:
    """The cost of ``linear`` as it is, and of the plain linear with a bias that it becomes once it is merged."""
    base = linear.base.weight
    return LayerCost(
        tokens=tokens,
        flops_exact=2 * sum(p.numel() for p in linear.parameters() if p.ndim == 2),
        flops_static=2 * base.numel(),
        bytes_exact=sum(p.numel() * p.element_size() for p in linear.parameters()),
        bytes_static=(base.numel() + linear.out_features) * base.element_size(),
    )
