from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vla_runtime.safety.differences import differences, rounding

intervals = st.lists(st.floats(1e-3, 0.5), min_size=4, max_size=20).map(np.array)


def cubic(t, a, b, c, d):
    return a + b * t + c * t**2 / 2 + d * t**3 / 6


@given(intervals, st.tuples(*[st.floats(-5, 5)] * 4))
def test_of_a_cubic_the_third_is_its_jerk_however_it_is_sampled(steps, coefficients):
    times = np.cumsum(steps)
    positions = cubic(times, *coefficients)[:, None]
    slack = rounding(times, 1e-13, 3).max()
    assert_allclose(differences(times, positions, 3), coefficients[3], atol=slack)


@given(intervals, st.sampled_from([1, 2, 3]), st.floats(0.1, 10))
def test_a_motion_within_limits_shows_no_derivative_beyond_them(steps, order, frequency):
    times = np.cumsum(steps)
    found = differences(times, np.sin(frequency * times)[:, None], order)
    assert np.abs(found).max() <= frequency**order + rounding(times, 1e-15, order).max()


def test_at_equal_intervals_they_are_the_usual_ones():
    positions = np.random.default_rng(0).normal(size=(20, 7))
    times = 0.01 * np.arange(20)
    for order in (1, 2, 3):
        assert_allclose(differences(times, positions, order), np.diff(positions, order, axis=0) / 0.01**order)


def test_rounding_bounds_what_a_wrong_position_does():
    times = np.cumsum([0.01, 0.02, 0.005, 0.01, 0.03, 0.01])
    wrong = 1e-5 * np.array([1, -1, 1, -1, 1, -1.0])[:, None]
    for order in (1, 2, 3):
        assert np.all(np.abs(differences(times, wrong, order))[:, 0] <= rounding(times, 1e-5, order) * (1 + 1e-12))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_there_are_as_many_as_there_are_spans(order):
    assert differences(np.arange(10.0), np.zeros((10, 7)), order).shape == (10 - order, 7)
