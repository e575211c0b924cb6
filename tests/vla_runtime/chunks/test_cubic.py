from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.cubic import cubic_slopes
from vla_runtime.chunks.schedule import Schedule


@st.composite
def curves(draw, least=2):
    horizon = draw(st.integers(least, 10))
    gaps = draw(st.lists(st.floats(1e-3, 1.0), min_size=horizon, max_size=horizon))
    return np.cumsum(gaps), draw(arrays(np.float64, (horizon, 7), elements=st.floats(-3, 3)))


@given(curves(), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_it_stays_between_neighbouring_actions_and_goes_one_way_at_most_twice_as_fast(curve, fractions):
    times, positions = curve
    schedule = Schedule(ActionChunk(0.0, times, positions))
    for start, end, low, high in zip(times, times[1:], positions, positions[1:], strict=False):
        mean = (high - low) / (end - start)
        rounding = 1e-12 / (end - start)
        for fraction in fractions:
            now = start + fraction * (end - start)
            position, velocity = schedule.position(now), schedule.velocity(min(now, np.nextafter(end, 0.0)))
            assert np.all(position >= np.minimum(low, high) - 1e-12)
            assert np.all(position <= np.maximum(low, high) + 1e-12)
            assert np.all(velocity * np.sign(mean) >= -rounding)
            assert np.all(np.abs(velocity) <= 2.0 * np.abs(mean) + rounding)


@given(curves())
def test_velocity_is_the_same_on_both_sides_of_every_action(curve):
    slopes = cubic_slopes(*curve)
    assert_allclose(slopes[1:, 0], slopes[:-1, 1], rtol=0, atol=0)


@given(st.lists(st.floats(0.05, 0.3), min_size=3, max_size=8), st.floats(0.5, 2.0), st.floats(0, 2.0))
def test_a_parabola_on_uneven_times_is_met_exactly_away_from_its_extremum(gaps, acceleration, speed):
    times = np.cumsum(gaps)
    vertex = times[0] - 1.5 * max(gaps) - speed / acceleration
    positions = np.repeat(0.5 * acceleration * (times - vertex)[:, None] ** 2, 7, axis=1)
    expected = acceleration * (times - vertex)
    slopes = cubic_slopes(times, positions)[:, :, 0]
    means = np.diff(positions[:, 0]) / np.diff(times)
    unlimited = 2 * np.minimum(means[:-1], means[1:]) >= expected[1:-1]
    assert_allclose(slopes[1:, 0][unlimited], expected[1:-1][unlimited], rtol=1e-9)


def test_slopes_by_hand():
    times = np.array([0.0, 1.0, 3.0, 4.0])
    positions = np.repeat(np.array([[0.0], [1.0], [2.0], [1.0]]), 7, axis=1)  # mean velocities 1, 0.5, -1
    slopes = cubic_slopes(times, positions)[:, :, 0]
    inner = (1.0 * 2.0 + 0.5 * 1.0) / 3.0  # below twice 0.5: the parabola's own
    first = 1.0 * (1.0 + 1.0 / 3.0) - 0.5 / 3.0
    last = -1.0 * (1.0 + 1.0 / 3.0) - 0.5 / 3.0
    assert_allclose(slopes, [[first, inner], [inner, 0.0], [0.0, last]])


def test_two_actions_are_joined_by_a_straight_line():
    schedule = Schedule(ActionChunk(0.0, np.array([0.0, 0.5]), np.outer([0.0, 1.0], np.arange(7.0))))
    for now in (0.0, 0.1, 0.25, 0.49, 0.5):
        assert_allclose(schedule.position(now), 2.0 * now * np.arange(7.0), atol=1e-12)
        assert_allclose(schedule.velocity(now), 2.0 * np.arange(7.0), atol=1e-12)


@pytest.mark.parametrize("horizon", [2, 3, 5])
def test_a_straight_line_stays_straight_on_uneven_times(horizon):
    times = np.array([0.0, 0.01, 0.4, 0.45, 1.0])[:horizon]
    slopes = cubic_slopes(times, np.outer(times, np.arange(7.0)))
    assert_allclose(slopes, np.broadcast_to(np.arange(7.0), slopes.shape), atol=1e-9)


def test_an_arm_asked_to_wait_waits():
    positions = np.repeat(np.array([[0.0], [1.0], [1.0], [0.0]]), 7, axis=1)
    schedule = Schedule(ActionChunk(0.0, np.array([0.0, 0.1, 0.2, 0.3]), positions))
    for now in np.linspace(0.1, 0.2, 11):
        assert_allclose(schedule.position(now), 1.0, atol=1e-12)
