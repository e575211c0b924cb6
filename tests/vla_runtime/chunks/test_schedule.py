from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.schedule import Schedule


@st.composite
def chunks(draw):
    horizon = draw(st.integers(1, 20))
    gaps = draw(st.lists(st.floats(1e-3, 1.0), min_size=horizon, max_size=horizon))
    positions = draw(arrays(np.float64, (horizon, 7), elements=st.floats(-10, 10)))
    return ActionChunk(draw(st.floats(0, 1e6)), draw(st.floats(0, 1)) + np.cumsum(gaps), positions)


@given(chunks(), st.floats(0, 1))
def test_agrees_with_numpys_interpolation(chunk, fraction):
    schedule = Schedule(chunk)
    now = min(schedule.begins + fraction * (schedule.ends - schedule.begins), schedule.ends)
    expected = [np.interp(now, chunk.stamp + chunk.times, column) for column in chunk.positions.T]
    assert_allclose(schedule.target(now), expected, rtol=0, atol=1e-9)


@given(chunks())
def test_every_action_is_met_at_its_own_time(chunk):
    for due, position in zip(chunk.stamp + chunk.times, chunk.positions, strict=True):
        assert_array_equal(Schedule(chunk).target(due), position)


@given(chunks(), st.floats(1e-6, 100))
def test_nothing_is_invented_outside_the_promise(chunk, away):
    schedule = Schedule(chunk)
    assert schedule.target(schedule.begins - away) is None
    assert schedule.target(schedule.ends + away) is None
    assert schedule.target(float("nan")) is None


def test_actions_already_past_are_skipped():
    chunk = ActionChunk(100.0, np.array([0.1, 0.2, 0.3]), np.arange(21.0).reshape(3, 7))
    assert_allclose(Schedule(chunk).target(100.25), np.arange(7.0) + 10.5)


def test_huge_targets_do_not_overflow_between_actions():
    huge = np.finfo(np.float64).max
    chunk = ActionChunk(0.0, np.array([0.0, 1.0]), np.array([[-huge] * 7, [huge] * 7]))
    assert_allclose(Schedule(chunk).target(0.5), np.zeros(7))


def test_a_target_is_the_callers_own():
    chunk = ActionChunk(0.0, np.array([0.0, 1.0]), np.ones((2, 7)))
    for now in (0.0, 1.0):
        target = Schedule(chunk).target(now)
        assert target is not None
        target[:] = 9.0
    assert_array_equal(chunk.positions, np.ones((2, 7)))


@pytest.mark.parametrize("now", [1.7e9, 1.7e9 + 1.0])
def test_wall_clock_stamps_keep_their_ends(now):
    chunk = ActionChunk(1.7e9, np.array([0.0, 1.0]), np.array([[0.0] * 7, [1.0] * 7]))
    assert_array_equal(Schedule(chunk).target(now), np.full(7, now - 1.7e9))
