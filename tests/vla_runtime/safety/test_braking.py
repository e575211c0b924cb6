from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from vla_runtime.safety.braking import braking

LIMIT, JERK = 5.0, 200.0
speeds = st.floats(-3, 3)
pushes = st.floats(-LIMIT, LIMIT)
limits = st.floats(1.0, 10.0)


@given(speeds, pushes)
def test_it_ends_at_rest_where_it_says(speed, push):
    path = braking(speed, push, (LIMIT, LIMIT), JERK)
    assert path.at(path.duration) == (path.stop, 0.0, 0.0)
    way, velocity, acceleration = path.at(path.duration * (1 - 1e-9))
    assert_allclose([way - path.stop, velocity, acceleration], 0.0, atol=1e-6)
    assert path.at(path.duration + 1.0) == (path.stop, 0.0, 0.0)


@given(speeds, pushes)
def test_on_the_way_jerk_and_acceleration_are_within_limits_and_velocity_is_the_slope(speed, push):
    path = braking(speed, push, (LIMIT, LIMIT), JERK)
    times = np.linspace(0, path.duration, 400)
    way, velocity, acceleration = np.array([path.at(t) for t in times]).T
    assert np.abs(acceleration).max() <= LIMIT + 1e-9
    step = times[1]
    if step > 1e-6:
        assert np.abs(np.diff(acceleration)).max() <= JERK * step * (1 + 1e-6) + 1e-9
        assert_allclose(np.diff(velocity), (acceleration[1:] + acceleration[:-1]) / 2 * step, atol=JERK * step**2)
        assert_allclose(np.diff(way), (velocity[1:] + velocity[:-1]) / 2 * step, atol=LIMIT * step**2)


@given(speeds, pushes)
def test_its_span_is_what_it_covers(speed, push):
    path = braking(speed, push, (LIMIT, LIMIT), JERK)
    ways = np.array([path.at(t)[0] for t in np.linspace(0, path.duration, 2000)])
    low, high = path.span
    assert_allclose([low, high], [ways.min(), ways.max()], atol=1e-5)
    assert low <= ways.min() + 1e-12
    assert high >= ways.max() - 1e-12


@given(speeds, pushes, st.floats(0, 1))
def test_braking_on_the_way_stops_at_the_same_place(speed, push, part):
    path = braking(speed, push, (LIMIT, LIMIT), JERK)
    way, velocity, acceleration = path.at(part * path.duration)
    assert_allclose(way + braking(velocity, acceleration, (LIMIT, LIMIT), JERK).stop, path.stop, atol=1e-9)


@pytest.mark.parametrize("speed", [0.0, 0.1, 1.0, -1.0])
def test_from_a_steady_speed_it_takes_the_textbook_time(speed):
    """v/A + A/J where the limit is reached, 2 sqrt(v/J) where it is not; on average at half the speed."""
    path = braking(speed, 0.0, (LIMIT, LIMIT), JERK)
    v = abs(speed)
    textbook = v / LIMIT + LIMIT / JERK if v >= LIMIT**2 / JERK else 2 * np.sqrt(v / JERK)
    assert_allclose(path.duration, textbook)
    assert_allclose(path.stop, speed * textbook / 2, atol=1e-15)


@given(speeds, pushes, limits, limits)
def test_the_two_directions_have_their_own_limits(speed, push, against_positive, against_negative):
    path = braking(speed, push, (against_positive, against_negative), JERK)
    accelerations = [path.at(t)[2] for t in np.linspace(0, path.duration, 200)]
    assert min(accelerations) >= min(-against_positive, push) - 1e-9
    assert max(accelerations) <= max(against_negative, push) + 1e-9


def test_at_rest_there_is_nothing_to_do():
    path = braking(0.0, 0.0, (LIMIT, LIMIT), JERK)
    assert (path.duration, path.stop, path.span) == (0.0, 0.0, (0.0, 0.0))
