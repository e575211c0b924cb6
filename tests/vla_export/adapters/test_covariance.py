"""Statistics that stream: however the tokens come in, the fit is that of all of them at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vla_export.adapters.covariance import TokenStatistics
from vla_export.adapters.least_squares import Affine, fit_tokens

WIDTH, DIRECTIONS = 6, 3
RIDGES = (1e-4, 1e-1)


def tokens(count: int, seed: int = 0, mean: float = 2.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, WIDTH, generator=generator) + mean
    g = (x - mean).square()[:, :DIRECTIONS] + torch.randn(count, DIRECTIONS, generator=generator)
    return x, g, torch.randn(DIRECTIONS, WIDTH, generator=generator)


def streamed(x: Tensor, g: Tensor, cuts: list[int], **limits: int) -> TokenStatistics:
    statistics = TokenStatistics(WIDTH, DIRECTIONS, **limits)
    edges = [0, *sorted(cuts), len(x)]
    for start, end in pairwise(edges):
        statistics.add(x[start:end], g[start:end])
    return statistics


def assert_same(found: tuple[Affine, ...], expected: tuple[Affine, ...], tolerance: float = 1e-9) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.matrix, other.matrix, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(one.offset, other.offset, rtol=tolerance, atol=tolerance)


@given(st.data(), st.integers(1, 40))
def test_any_chunking_gives_the_fit_of_all_tokens(data: st.DataObject, count: int) -> None:
    x, g, prior = tokens(count)
    cuts = data.draw(st.lists(st.integers(0, count), max_size=6))
    statistics = streamed(x, g, cuts)
    assert statistics.tokens == statistics.fitted == count
    assert_same(statistics.fit(prior, RIDGES), fit_tokens(x, g, prior, RIDGES))


def test_a_large_mean_takes_nothing_from_small_variances() -> None:
    x, g, prior = tokens(100, mean=0.0)
    shifted = x.double() * 2.0**-6 + 2.0**12  # exact in float32
    rounded = shifted.float()
    assert_same(streamed(rounded, g, [3, 50]).fit(prior, RIDGES), fit_tokens(rounded, g, prior, RIDGES), 1e-6)


def test_tokens_given_are_not_kept_by_reference() -> None:
    x, g, prior = tokens(4)
    expected = fit_tokens(x, g, prior, RIDGES)
    statistics = TokenStatistics(WIDTH, DIRECTIONS)
    statistics.add(x, g)
    x.zero_()
    g.zero_()
    assert_same(statistics.fit(prior, RIDGES), expected)


@given(st.data(), st.integers(1, 40))
def test_a_sample_is_the_same_however_tokens_come_in(data: st.DataObject, count: int) -> None:
    x, g, prior = tokens(count)
    cuts = data.draw(st.lists(st.integers(0, count), max_size=6))
    together, apart = (streamed(x, g, c, widest=WIDTH - 1, sample=8) for c in ([], cuts))
    assert together.fitted == apart.fitted == min(count, 8)
    assert_same(apart.fit(prior, RIDGES), together.fit(prior, RIDGES))
    if count <= 8:
        assert_same(together.fit(prior, RIDGES), fit_tokens(x, g, prior, RIDGES))


def test_a_sample_is_of_tokens_that_were_there_and_of_all_of_them_alike() -> None:
    """Of tokens numbered 0 to 1999 the mean of 500 is near 999.5; its standard deviation is 22."""
    numbers = torch.arange(2000.0)[:, None]
    statistics = TokenStatistics(1, 1, widest=0, sample=500)
    for chunk in numbers.split(77):
        statistics.add(chunk, chunk)
    x, _ = statistics._kept()
    assert len(set(x.flatten().tolist())) == 500
    assert float(x.mean()) == pytest.approx(999.5, abs=110)
