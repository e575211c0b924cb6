"""Intervals against published values, other people's programs, and the equations that define them."""

from __future__ import annotations

from math import comb, sqrt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vla_evaluation.intervals import mcnemar, paired_difference, wilson

Z = 1.959963984540054

counts = st.integers(0, 300)


@pytest.mark.parametrize(
    ("successes", "n", "lower", "upper"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, n: int, lower: float, upper: float) -> None:
    """Table I of Newcombe, Statistics in Medicine 17 (1998) 857–872, method 3."""
    found = wilson(successes, n)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_limits_are_where_the_score_test_changes_its_mind(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    found = wilson(successes, n)
    assert 0 <= found.lower <= found.rate <= found.upper <= 1
    for limit in (found.lower, found.upper):
        if 0 < limit < 1:
            assert abs(found.rate - limit) == pytest.approx(Z * sqrt(limit * (1 - limit) / n), rel=1e-6)


@given(st.integers(1, 500), st.data())
def test_failures_are_the_mirror_image_of_successes(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    one, other = wilson(successes, n), wilson(n - successes, n)
    assert (one.lower, one.upper) == pytest.approx((1 - other.upper, 1 - other.lower), abs=1e-12)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(2, 10))
def test_more_episodes_of_the_same_rate_are_surer(successes: int, failures: int, factor: int) -> None:
    few, many = wilson(successes, successes + failures), wilson(factor * successes, factor * (successes + failures))
    assert many.upper - many.lower < few.upper - few.lower


@pytest.mark.parametrize("counted", [(1, 0), (0, 0), (-1, 3)])
def test_counts_that_are_none(counted: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="successes of"):
        wilson(*counted)


def test_paired_difference_as_published() -> None:
    """The example of Newcombe, Statistics in Medicine 17 (1998) 2635–2650, method 10."""
    found = paired_difference(36, 12, 2, 0)
    assert (found.difference, found.lower, found.upper) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)


def test_paired_difference_as_another_program_has_it() -> None:
    """R's contingencytables computes this interval for the 161 patients of Cavo et al. (2012), its chapter 8."""
    found = paired_difference(59, 6, 16, 80)
    assert (found.difference, found.lower, found.upper) == pytest.approx((-0.0621, -0.1186, -0.0046), abs=5e-5)


@given(counts, counts, counts, counts)
def test_paired_difference_holds_the_difference_and_does_not_depend_on_who_is_first(
    both: int, first: int, second: int, neither: int
) -> None:
    assume(both + first + second + neither > 0)
    one, other = paired_difference(both, first, second, neither), paired_difference(both, second, first, neither)
    assert -1 <= one.lower <= one.difference <= one.upper <= 1
    assert (one.lower, one.difference, one.upper) == pytest.approx((-other.upper, -other.difference, -other.lower))
    assert one.p_value == other.p_value


@given(st.integers(1, 300))
def test_a_clean_sweep_against_nothing(n: int) -> None:
    found = paired_difference(0, n, 0, 0)
    assert found.difference == 1
    assert found.lower == pytest.approx(1 - sqrt(2) * (1 - wilson(n, n).lower))


@given(st.integers(1, 150), st.integers(1, 150))
def test_agreement_makes_the_difference_surer(both: int, neither: int) -> None:
    """The same two rates, once always of the same seeds and once of different ones as far as possible."""
    together = paired_difference(both, 0, 0, neither)
    apart = min(both, neither)
    scattered = paired_difference(both - apart, apart, apart, neither - apart)
    assert scattered.difference == together.difference == 0
    assert together.upper - together.lower <= scattered.upper - scattered.lower


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar(0, 8) == pytest.approx(2 / 256)


@given(counts, counts)
def test_mcnemar_adds_up_everything_at_least_as_lopsided(first: int, second: int) -> None:
    n = first + second
    lopsided = [k for k in range(n + 1) if abs(2 * k - n) >= abs(first - second)]
    assert mcnemar(first, second) == pytest.approx(sum(comb(n, k) for k in lopsided) / (1 << n))
