"""Identities of linear CKA, and a second implementation that shares nothing with the first."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from vla_export.prune.cka import linear_cka
from vla_runtime.errors import WorkFailed

SHAPES = st.tuples(st.integers(3, 12), st.integers(1, 9), st.integers(0, 2**16))


def draw(tokens: int, width: int, seed: int) -> Tensor:
    return torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed)) + 0.5


def cka_by_features(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Kornblith et al. 2019, eq. (4) by way of features: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) of the centred states."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


@settings(deadline=None)
@given(first=SHAPES, width=st.integers(1, 9))
def test_agrees_with_the_form_over_features(first: tuple[int, int, int], width: int) -> None:
    x, y = draw(*first), draw(first[0], width, first[2] + 1)
    assert linear_cka([x, y])[0, 1].item() == pytest.approx(
        cka_by_features(x.double().numpy(), y.double().numpy()), rel=1e-9
    )


@settings(deadline=None)
@given(shape=SHAPES)
def test_is_symmetric_and_between_zero_and_one(shape: tuple[int, int, int]) -> None:
    tokens, width, seed = shape
    matrix = linear_cka([draw(tokens, width, seed + n) for n in range(4)])
    assert torch.equal(matrix, matrix.T)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(4, dtype=torch.float64))
    assert (matrix >= -1e-12).all()
    assert (matrix <= 1 + 1e-12).all()


@settings(deadline=None)
@given(shape=SHAPES, scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_rotation_shift_and_scale_do_not_count(shape: tuple[int, int, int], scale: float, shift: float) -> None:
    x = draw(*shape).double()
    q, _ = torch.linalg.qr(draw(shape[1], shape[1], shape[2] + 1).double())
    assert linear_cka([x, scale * x @ q + shift])[0, 1].item() == pytest.approx(1.0, abs=1e-9)


def test_states_with_nothing_in_common_have_similarity_zero() -> None:
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert linear_cka([x, y])[0, 1].item() == pytest.approx(0.0, abs=1e-12)


def test_the_size_of_activations_does_not_matter() -> None:
    x, y = draw(6, 4, 0), draw(6, 4, 1)
    torch.testing.assert_close(linear_cka([1e30 * x, 1e-30 * y]), linear_cka([x, y]), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "state", [torch.ones(1, 4), 0.1 * torch.ones(5, 4), torch.full((5, 4), math.nan)], ids=["one", "equal", "nan"]
)
def test_states_without_a_similarity_are_an_error(state: Tensor) -> None:
    with pytest.raises(WorkFailed, match="hidden state 1"):
        linear_cka([draw(len(state), 4, 0) if len(state) > 1 else torch.ones(5, 4).cumsum(0), state])
