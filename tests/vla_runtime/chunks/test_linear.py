from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.schedule import Schedule


@st.composite
def chunks(draw):
    horizon = draw(st.integers(2, 20))
    gaps = draw(st.lists(st.floats(1e-3, 1.0), min_size=horizon, max_size=horizon))
    positions = draw(arrays(np.float64, (horizon, 7), elements=st.floats(-10, 10)))
    return ActionChunk(draw(st.floats(0, 1e6)), draw(st.floats(0, 1)) + np.cumsum(gaps), positions)


@given(chunks(), st.floats(0, 1))
def test_agrees_with_numpys_interpolation(chunk, fraction):
    schedule = Schedule(chunk, "linear")
    now = min(schedule.begins + fraction * (schedule.ends - schedule.begins), schedule.ends)
    expected = [np.interp(now, chunk.stamp + chunk.times, column) for column in chunk.positions.T]
    assert_allclose(schedule.position(now), expected, rtol=0, atol=1e-9)


def test_velocity_is_each_segments_own():
    positions = np.outer([0.0, 1.0, -1.0], np.ones(7))
    schedule = Schedule(ActionChunk(10.0, np.array([0.0, 0.1, 0.2]), positions), "linear")
    assert_allclose(schedule.velocity(10.05), 10.0)
    assert_allclose(schedule.velocity(10.15), -20.0)
