from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vla_runtime.chunks.path import Straight, mean_position, mean_velocity

LINES = (
    Straight(1.0, np.array([np.arange(7.0), np.ones(7)])),
    Straight(2.0, np.array([np.zeros(7), np.arange(7.0) - 3.0])),
)


@given(st.floats(0, 5))
def test_a_straight_path_moves_at_its_velocity(now):
    assert_allclose(mean_position([1.0], LINES[:1], now), np.arange(7.0) + (now - 1.0))
    assert_allclose(mean_velocity([1.0], [0.0], LINES[:1], now), np.ones(7))


@given(st.floats(0, 1), st.floats(0, 5))
def test_a_mean_is_the_weighted_sum(weight, now):
    alone = [mean_position([1.0], [line], now) for line in LINES]
    found = mean_position([weight, 1 - weight], LINES, now)
    assert_allclose(found, weight * alone[0] + (1 - weight) * alone[1], atol=1e-12)


@given(st.floats(-2, 2), st.floats(0, 5))
def test_the_velocity_counts_the_change_of_the_weights(rate, now):
    def position(time):
        return mean_position([0.5 + rate * (time - now), 0.5 - rate * (time - now)], LINES, time)

    step = 1e-4
    expected = (position(now + step) - position(now - step)) / (2 * step)  # exact for a parabola
    assert_allclose(mean_velocity([0.5, 0.5], [rate, -rate], LINES, now), expected, atol=1e-8)
