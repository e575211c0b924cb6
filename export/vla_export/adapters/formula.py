"""Whether exact branches compute what their authors wrote: each formula again, step by step, and the difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from vla_export.adapters.adapter import Branch
from vla_export.adapters.gating import EnergyGating, ExpertGating, Gating, ProjectedGating
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.flow_model import FlowModel

# A token whose selection hangs on less than this (relative) may be decided either way by rounding alone.
_BOUNDARY = 1e-5


class FormulaCheck:
    """The largest relative difference of a token's output from the formula, over all tokens that are decided.

    undecided: tokens left out because their selection hangs on the last digit of a sum.
    """

    def __init__(self) -> None:
        self.error = 0.0
        self.undecided = 0

    def add(self, errors: Tensor, margin: Tensor) -> None:
        """errors, margin: one entry per token."""
        decided = margin > _BOUNDARY
        self.undecided += int((~decided).sum())
        if decided.any():
            self.error = max(self.error, float(errors[decided].max()))


@contextmanager
def checking(model: FlowModel, branches: Mapping[str, Branch]) -> Iterator[Mapping[str, FormulaCheck]]:
    """Check routed linears of ``model`` against the branches they should carry while the context lasts; by path.

    The model must compute in float32; where its weights are stored in half precision, the branches are rounded too.
    """
    checks = {path: FormulaCheck() for path in branches}
    handles = []
    try:
        for path, branch in branches.items():
            linear = model.get_submodule(path)
            if not isinstance(linear, RoutedLinear):
                raise ValueError(f"{path} carries no branch")
            stored = linear.base.weight.dtype
            handles.append(linear.register_forward_hook(partial(_check, checks[path], _rounded(branch, stored))))
        yield checks
    finally:
        for handle in handles:
            handle.remove()


def _check(check: FormulaCheck, branch: Branch, module: RoutedLinear, args: tuple[Tensor, ...], output: Tensor) -> None:
    x = args[0].reshape(-1, args[0].shape[-1])
    update, margin = formula(x, branch)
    expected = F.linear(x, module.base.weight, module.base.bias) + update
    difference = (output.reshape(expected.shape) - expected).norm(dim=-1)
    check.add(difference / expected.norm(dim=-1).clamp(min=torch.finfo(expected.dtype).tiny), margin)


def _rounded(branch: Branch, dtype: torch.dtype) -> Branch:
    A, B, router = (tensor.to(dtype).float() for tensor in (branch.A, branch.B, branch.router))
    return Branch(A, B, router, branch.gating)


def formula(x: Tensor, branch: Branch) -> tuple[Tensor, Tensor]:
    """A branch as its authors write it: sort, cut, put back. x: (tokens, in), float32.

    Returns the update (tokens, out) and the margin (tokens,): how far the selection is from another one.
    """
    gates, margin = gates_by_formula(F.linear(x, branch.router), branch.gating)
    return F.linear(F.linear(x, branch.A) * gates, branch.B), margin


def gates_by_formula(scores: Tensor, gating: Gating) -> tuple[Tensor, Tensor]:
    """scores (tokens, scores) → gates (tokens, directions) and margin (tokens,)."""
    if isinstance(gating, EnergyGating):
        return _energy(scores, gating)
    if isinstance(gating, ExpertGating):
        gates, margin = _experts(scores, gating)
        return torch.cat([gates[:, n, None].repeat(1, rank) for n, rank in enumerate(gating.ranks)], -1), margin
    if isinstance(gating, ProjectedGating):
        experts, first = _experts(scores, gating.experts)
        gates, second = _energy(experts @ gating.projection.weight.T, gating.selection)
        return gates, torch.minimum(first, second)
    raise TypeError(f"no formula for {type(gating).__name__}")


def _energy(scores: Tensor, gating: EnergyGating) -> tuple[Tensor, Tensor]:
    if gating.semantics == "paper":
        scores = scores.relu()
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    energy = ordered.square().cumsum(-1)
    total = energy[:, -1:]
    if gating.semantics == "released":
        kept = energy <= gating.threshold * total
    else:
        kept = torch.cat((torch.zeros_like(total), energy[:, :-1]), dim=-1) < gating.threshold * total
    kept[:, 0] = True
    kept[:, gating.most :] = False
    gates = torch.zeros_like(scores).scatter(-1, order, ordered * kept)[:, : gating.directions]
    margin = (energy / total.clamp(min=torch.finfo(scores.dtype).tiny) - gating.threshold).abs()
    margin[:, -1] = 1.0  # the whole is the whole, without rounding
    return gates, margin.amin(-1)


def _experts(scores: Tensor, gating: ExpertGating) -> tuple[Tensor, Tensor]:
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    gates = weights / weights.sum(-1, keepdim=True)
    count = gating.top_k
    if count is None:
        return gates, torch.ones_like(gates[:, 0])
    ordered, order = gates.sort(dim=-1, descending=True, stable=True)
    margin = torch.ones_like(gates[:, 0])
    if count < gates.shape[-1]:
        margin = (ordered[:, count - 1] - ordered[:, count]) / ordered[:, count - 1]
    best = torch.ones_like(ordered[:, :count]) if gating.one_hot else ordered[:, :count]
    if not gating.one_hot:
        best = best / (best.sum(-1, keepdim=True) + gating.epsilon)
    return torch.zeros_like(gates).scatter(-1, order[:, :count], best), margin
