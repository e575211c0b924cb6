"""Taking rows and columns out of a linear, whatever it carries."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vla_export.adapters.adapter import Branch
from vla_export.adapters.routed_linear import RoutedLinear


def narrow(linear: nn.Module, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> nn.Module:
    """A linear with only these rows (numbers it gives) and columns (numbers it reads), in this order; None keeps all.

    The numbers left come out as they were, and what is no longer read counts as zero. Of an exact branch that makes:
    rows of B, and columns of A and of the router, which sees zeros too.

    Raises TypeError for a module that is no linear.
    """
    if isinstance(linear, RoutedLinear):
        base = narrow(linear.base, rows, columns)
        assert isinstance(base, nn.Linear)
        branch = linear.branch
        A, B, router = _kept(branch.A, None, columns), _kept(branch.B, rows, None), _kept(branch.router, None, columns)
        return RoutedLinear(base, Branch(A, B, router, branch.gating))
    if not isinstance(linear, nn.Linear):
        raise TypeError(f"a {type(linear).__name__} is no linear")
    weight = _kept(linear.weight, rows, columns)
    narrowed = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None, device="meta")
    narrowed.weight = _parameter(weight, linear.weight)
    if linear.bias is not None:
        narrowed.bias = _parameter(_kept(linear.bias[:, None], rows, None)[:, 0], linear.bias)
    return narrowed


def _kept(matrix: Tensor, rows: Sequence[int] | None, columns: Sequence[int] | None) -> Tensor:
    for axis, kept in enumerate((rows, columns)):
        if kept is not None:
            matrix = matrix.index_select(axis, torch.tensor(kept, dtype=torch.int64, device=matrix.device))
    return matrix.detach()


def _parameter(tensor: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach(), requires_grad=like.requires_grad)
