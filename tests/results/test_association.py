"""Ranks, correlation, separation and their intervals, against SciPy where it has them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.association import bootstrapped, ranks, separation, spearman

VALUES = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=30)


@given(VALUES)
def test_ranks_and_correlation_are_scipys(pairs: list[tuple[int, int]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    x, y = np.array(pairs, dtype=np.float64).T
    np.testing.assert_allclose(ranks(x), stats.rankdata(x))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    else:
        assert math.isnan(spearman(x, y))


@given(VALUES)
def test_separation_counts_the_pairs_that_are_in_order(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=np.float64).T
    positive = (y > 0).astype(np.float64)
    high, low = x[positive > 0], x[positive == 0]
    if len(high) == 0 or len(low) == 0:
        assert math.isnan(separation(x, positive))
        return
    in_order = np.mean([(a > b) + (a == b) / 2 for a in high for b in low])
    assert separation(x, positive) == pytest.approx(in_order)


def test_a_monotone_relation_is_certain_whatever_is_drawn() -> None:
    x = np.arange(20.0)
    assert spearman(x, x**3) == pytest.approx(1.0)
    assert bootstrapped(spearman, x, np.exp(x), [str(n) for n in range(20)], 200) == pytest.approx((1.0, 1.0))


def test_saying_the_same_again_makes_nothing_surer() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=30)
    y = x + generator.normal(size=30)
    names = [str(n) for n in range(30)]
    once = bootstrapped(spearman, x, y, names, 400)
    thrice = bootstrapped(spearman, np.tile(x, 3), np.tile(y, 3), names * 3, 400)
    assert once is not None
    assert thrice == pytest.approx(once, abs=0.01)
    assert once[0] < spearman(x, y) < once[1]


def test_where_most_draws_say_nothing_there_is_no_interval() -> None:
    x = np.arange(12.0)
    one_class = np.zeros(12)
    assert bootstrapped(separation, x, one_class, [str(n) for n in range(12)], 50) is None
