"""Taking out of a branch the directions that its inputs never select."""

from __future__ import annotations

from torch import Tensor

from vla_export.adapters.adapter import Branch
from vla_export.adapters.routed_linear import RoutedLinear


def cut_branch(branch: Branch, selected: Tensor, most: int) -> Branch:
    """``branch`` with its ``selected`` directions alone, in their order, and at ``most`` so many of them at once.

    selected: (directions,), bool. The rows of A and columns of B of the others go. Their rows of the router stay,
    behind those of the selected: LoRA-SP compares a direction's score with all others, and a softmax sums them. So a
    token that selects none of the others and not more than ``most`` gets what it got before, to the rounding of a sum,
    and any other loses exactly what is gone.

    Raises ValueError where none is selected: a branch that does nothing has no shape.
    """
    if not selected.any():
        raise ValueError("a branch needs at least one selected direction")
    gating, order = branch.gating.cut(selected, most)
    return Branch(branch.A[selected], branch.B[:, selected], branch.router[order], gating)


def cut_bank(linear: RoutedLinear, selected: Tensor, most: int) -> RoutedLinear:
    """A routed linear with `cut_branch` of its branch."""
    return RoutedLinear(linear.base, cut_branch(linear.branch, selected, most))
