"""Folding an update into a weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vla_export.adapters.adapter import Branch, LinearUpdate, LowRank
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


def test_pissa_replaces_the_leading_singular_directions() -> None:
    """A update that is the leading directions themselves gives the weight back."""
    weight = draw(5, 6)
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    update = LinearUpdate(fixed=(LowRank(Vh[:2], U[:, :2] * S[:2]),), principal=2)
    torch.testing.assert_close(fold(weight, update), weight)
    rest = fold(weight, LinearUpdate(fixed=(LowRank(Vh[:2], torch.zeros(5, 2)),), principal=2))
    assert torch.linalg.matrix_norm(rest, 2) == pytest.approx(float(S[2]), rel=1e-4)


def test_doras_rows_have_its_norms() -> None:
    magnitude = torch.arange(1.0, 6.0)
    folded = fold(draw(5, 6), LinearUpdate(fixed=(PART,), magnitude=magnitude))
    torch.testing.assert_close(folded.norm(dim=1), magnitude)
    directions = torch.nn.functional.normalize(draw(5, 6) + PART.B @ PART.A, dim=1)
    torch.testing.assert_close(torch.nn.functional.normalize(folded, dim=1), directions)


def test_an_adapters_own_weight_comes_before_everything() -> None:
    own = draw(5, 6, seed=9)
    torch.testing.assert_close(fold(draw(5, 6), LinearUpdate((PART,), weight=own)), own + PART.B @ PART.A)


def test_a_branch_folds_nothing() -> None:
    branch = Branch(PART.A, PART.B, PART.A, EnergyGating(2, 0.9, "released"))
    assert not folds(LinearUpdate(branch=branch))
    assert folds(LinearUpdate(fixed=(PART,), branch=branch))
    assert folds(LinearUpdate(branch=branch, weight=draw(5, 6)))
