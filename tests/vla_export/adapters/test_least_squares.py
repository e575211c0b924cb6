"""The nearest affine map, against numpy's least squares and the algebra it has to obey."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla_export.adapters.least_squares import Affine, Moments, fit_moments, fit_tokens


def tokens(count: int, width: int, directions: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """x with a mean, g that depends on it with noise, and a prior."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    x = normal(count, width) * (0.1 + normal(width).abs()) + 3 * normal(width)
    g = x @ normal(width, directions) + normal(directions) + normal(count, directions)
    return x, g, normal(directions, width)


def moments(x: Tensor, g: Tensor) -> Moments:
    centred = x - x.mean(0)
    return Moments(x.mean(0), g.mean(0), centred.T @ centred / len(x), (g - g.mean(0)).T @ centred / len(x))


def squared_error(x: Tensor, g: Tensor, fit: Affine) -> float:
    return float((g - x @ fit.matrix.T - fit.offset).square().sum())


def numpy_ridge(x: Tensor, g: Tensor, prior: Tensor, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Least squares with rows that ask for the prior, solved by numpy; the offset is a column that is not penalised."""
    count, width = x.shape
    penalty = np.sqrt(count * ridge * np.cov(x.numpy(), rowvar=False, bias=True).reshape(width, width).trace() / width)
    left = np.block([[x.numpy(), np.ones((count, 1))], [penalty * np.eye(width), np.zeros((width, 1))]])
    solution = np.linalg.lstsq(left, np.vstack([g.numpy(), penalty * prior.numpy().T]), rcond=None)[0]
    return solution[:-1].T, solution[-1]


@given(st.integers(2, 30), st.integers(1, 12), st.integers(1, 5), st.sampled_from([1e-6, 1e-3, 1.0]), st.integers(0, 9))
def test_both_forms_are_numpys_ridge(count: int, width: int, directions: int, ridge: float, seed: int) -> None:
    x, g, prior = tokens(count, width, directions, seed)
    matrix, offset = numpy_ridge(x, g, prior, ridge)
    for (fit,) in (fit_moments(moments(x, g), prior, [ridge]), fit_tokens(x, g, prior, [ridge])):
        np.testing.assert_allclose(fit.matrix.numpy(), matrix, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(fit.offset.numpy(), offset, rtol=1e-6, atol=1e-5)


def test_next_to_no_ridge_is_numpys_least_squares() -> None:
    x, g, prior = tokens(50, 8, 3)
    expected = np.linalg.lstsq(np.hstack([x.numpy(), np.ones((50, 1))]), g.numpy(), rcond=None)[0]
    (fit,) = fit_moments(moments(x, g), prior, [1e-13])
    np.testing.assert_allclose(fit.matrix.numpy(), expected[:-1].T, atol=1e-9)
    np.testing.assert_allclose(fit.offset.numpy(), expected[-1], atol=1e-8)


@given(st.integers(1, 30), st.integers(1, 12), st.floats(1e-6, 1e3), st.integers(0, 9))
def test_never_worse_than_the_prior_on_its_own_tokens(count: int, width: int, ridge: float, seed: int) -> None:
    x, g, prior = tokens(count, width, 4, seed)
    before = squared_error(x, g, Affine(prior, torch.zeros(4, dtype=torch.float64)))
    for (fit,) in (fit_moments(moments(x, g), prior, [ridge]), fit_tokens(x, g, prior, [ridge])):
        assert squared_error(x, g, fit) <= before * (1 + 1e-9)


def test_an_exactly_affine_update_is_recovered() -> None:
    x, _, prior = tokens(200, 10, 4)
    matrix, offset = torch.randn(4, 10, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    g = x @ matrix.T + offset
    (fit,) = fit_moments(moments(x, g), prior, [1e-12])
    assert float((fit.matrix - matrix).norm() / matrix.norm()) < 1e-6
    assert float((fit.offset - offset).norm() / offset.norm()) < 1e-6
    (kept,) = fit_moments(moments(x, g), matrix, [10.0])
    torch.testing.assert_close(kept.matrix, matrix)  # a prior that is right already stays, whatever the ridge


def test_directions_that_no_token_takes_keep_the_prior() -> None:
    x, g, prior = tokens(30, 6, 2)
    x[:, 4:] = x[0, 4:]
    for (fit,) in (fit_moments(moments(x, g), prior, [1e-3]), fit_tokens(x, g, prior, [1e-3])):
        torch.testing.assert_close(fit.matrix[:, 4:], prior[:, 4:])
        assert not torch.allclose(fit.matrix[:, :4], prior[:, :4])


@pytest.mark.parametrize("count", [1, 5])
def test_tokens_that_are_all_the_same_change_only_the_offset(count: int) -> None:
    x, g, prior = tokens(1, 6, 2)
    x, g = x.expand(count, -1), g.expand(count, -1)
    for (fit,) in (fit_moments(moments(x, g), prior, [1e-3]), fit_tokens(x, g, prior, [1e-3])):
        torch.testing.assert_close(x @ fit.matrix.T + fit.offset, g)
        torch.testing.assert_close(fit.matrix, prior)


def test_several_ridges_are_several_fits() -> None:
    x, g, prior = tokens(30, 6, 2)
    together = fit_tokens(x, g, prior, [1e-3, 1.0])
    apart = [fit_tokens(x, g, prior, [ridge])[0] for ridge in (1e-3, 1.0)]
    for one, other in zip(together, apart, strict=True):
        assert torch.equal(one.matrix, other.matrix)
        assert torch.equal(one.offset, other.offset)
