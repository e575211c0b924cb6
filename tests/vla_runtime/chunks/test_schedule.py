from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.schedule import INTERPOLATIONS, Schedule

interpolations = st.sampled_from(sorted(INTERPOLATIONS))


@st.composite
def chunks(draw):
    horizon = draw(st.integers(2, 20))
    gaps = draw(st.lists(st.floats(1e-3, 1.0), min_size=horizon, max_size=horizon))
    positions = draw(arrays(np.float64, (horizon, 7), elements=st.floats(-10, 10)))
    return ActionChunk(draw(st.floats(0, 1e6)), draw(st.floats(0, 1)) + np.cumsum(gaps), positions)


@given(chunks(), interpolations)
def test_every_action_is_met_at_its_own_time(chunk, interpolation):
    schedule = Schedule(chunk, interpolation)
    for due, position in zip(chunk.stamp + chunk.times, chunk.positions, strict=True):
        assert_array_equal(schedule.position(due), position)


@given(chunks(), interpolations, st.floats(1e-6, 10))
def test_outside_of_the_chunk_it_goes_on_straight(chunk, interpolation, away):
    schedule = Schedule(chunk, interpolation)
    for end, out in ((schedule.begins, schedule.begins - away), (schedule.ends, schedule.ends + away)):
        velocity = schedule.velocity(end)
        assert_allclose(schedule.velocity(out), velocity)
        expected = schedule.position(end) + (out - end) * velocity
        assert_allclose(schedule.position(out), expected, rtol=1e-9, atol=1e-9)


@given(chunks(), st.floats(0, 1))
def test_velocity_is_the_derivative_of_position(chunk, fraction):
    chunk = ActionChunk(0.0, chunk.times, chunk.positions)
    schedule = Schedule(chunk)
    segment = int(fraction * (len(chunk.times) - 1.001))
    start, duration = chunk.times[segment], np.diff(chunk.times)[segment]
    now, step = start + 0.5 * duration, 0.25 * duration
    # Differences over two steps, one twice the other, are exact for a cubic when they are combined so.
    near = (schedule.position(now + step) - schedule.position(now - step)) / (2 * step)
    far = (schedule.position(now + 2 * step) - schedule.position(now - 2 * step)) / (4 * step)
    assert_allclose(schedule.velocity(now), (4 * near - far) / 3, rtol=1e-7, atol=1e-9 / duration)


def test_actions_already_past_are_skipped():
    chunk = ActionChunk(100.0, np.array([0.1, 0.2, 0.3]), np.arange(21.0).reshape(3, 7))
    assert_allclose(Schedule(chunk).position(100.25), np.arange(7.0) + 10.5)


@pytest.mark.parametrize("interpolation", sorted(INTERPOLATIONS))
def test_huge_targets_do_not_overflow(interpolation):
    huge = np.finfo(np.float64).max
    chunk = ActionChunk(0.0, np.array([0.0, 0.5, 1.0]), np.array([[-huge] * 7, [huge] * 7, [-huge] * 7]))
    schedule = Schedule(chunk, interpolation)
    with np.errstate(all="raise"):
        assert np.isfinite(schedule.position(0.25)).all()
        assert np.all(schedule.position(0.0) < -1e6)
        assert np.all(schedule.position(0.5) > 1e6)
        assert np.isfinite(schedule.velocity(0.25)).all()


def test_what_is_given_is_the_callers_own():
    chunk = ActionChunk(0.0, np.array([0.0, 1.0]), np.ones((2, 7)))
    schedule = Schedule(chunk)
    chunk.positions[:] = 5.0
    for now in (0.0, 0.5, 1.0):
        schedule.position(now)[:] = 9.0
    for now in (0.0, 0.5, 1.0):
        assert_allclose(schedule.position(now), np.ones(7))


@pytest.mark.parametrize("now", [1.7e9, 1.7e9 + 1.0])
def test_wall_clock_stamps_keep_their_ends(now):
    chunk = ActionChunk(1.7e9, np.array([0.0, 1.0]), np.array([[0.0] * 7, [1.0] * 7]))
    assert_array_equal(Schedule(chunk).position(now), np.full(7, now - 1.7e9))
