"""Folding an update into a weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vla_export.adapters.adapter import Branch, LinearUpdate, LowRank, Rewrite
from vla_export.adapters.folding import fold, folds
from vla_export.adapters.gating import EnergyGating


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


PART = LowRank(draw(2, 6, seed=1), draw(5, 2, seed=2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_weight_of_any_type_is_folded_in_float32_and_left_alone(dtype: torch.dtype) -> None:
    weight = draw(5, 6).to(dtype)
    before = weight.clone()
    folded = fold(weight, LinearUpdate(fixed=(PART, PART)))
    assert folded.dtype == torch.float32
    assert torch.equal(weight, before)
    torch.testing.assert_close(folded, weight.float() + 2 * PART.B @ PART.A)


def test_what_a_library_makes_of_a_weight_takes_its_place() -> None:
    weight = draw(5, 6).half()
    update = LinearUpdate(rewrite=Rewrite((5, 6), lambda W: W @ W.T @ W))
    assert update.shape == (5, 6)
    assert torch.equal(fold(weight, update), weight.float() @ weight.float().T @ weight.float())


def test_an_adapters_own_weight_comes_before_everything() -> None:
    own = draw(5, 6, seed=9)
    torch.testing.assert_close(fold(draw(5, 6), LinearUpdate((PART,), weight=own)), own + PART.B @ PART.A)


def test_a_branch_folds_nothing() -> None:
    branch = Branch(PART.A, PART.B, PART.A, EnergyGating(2, 0.9, "released"))
    assert not folds(LinearUpdate(branch=branch))
    assert folds(LinearUpdate(fixed=(PART,), branch=branch))
    assert folds(LinearUpdate(branch=branch, weight=draw(5, 6)))
    assert folds(LinearUpdate(rewrite=Rewrite((5, 6), Tensor.neg)))
