from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.replace import Replace
from vla_runtime.chunks.schedule import Schedule

TIMES = 0.1 * np.arange(6)
actions = arrays(np.float64, (6, 7), elements=st.floats(-3, 3))
windows = st.floats(0.02, 0.3)


def schedule(stamp, positions):
    return Schedule(ActionChunk(stamp, TIMES, positions))


@given(actions, actions, windows, st.floats(0, 1))
def test_after_its_window_the_target_is_the_new_chunks_own(former, newer, window, later):
    new = schedule(0.1, newer)
    motion = Replace(schedule(0.0, former), window).then(new, 0.2)
    for now in (0.2 + window + 1e-9, 0.2 + window + 1e-9 + later):
        assert_array_equal(motion.position(now), new.position(now))
        assert_array_equal(motion.velocity(now), new.velocity(now))


@given(actions, actions, windows, st.floats(0, 1))
def test_on_its_way_it_is_no_farther_from_the_new_chunk_than_it_says(former, newer, window, fraction):
    old, new = schedule(0.0, former), schedule(0.1, newer)
    motion = Replace(old, window).then(new, 0.2)
    now = 0.2 + fraction * window
    off = np.abs(old.position(0.2) - new.position(0.2))
    faster = np.abs(old.velocity(0.2) - new.velocity(0.2))
    assert np.all(np.abs(motion.position(now) - new.position(now)) <= off + 4 / 27 * window * faster + 1e-12)


def test_the_way_is_the_cubic_to_rest():
    still, shifted = schedule(0.0, np.ones((6, 7))), schedule(0.1, np.zeros((6, 7)))
    motion = Replace(still, 0.2).then(shifted, 0.2)
    for u in np.linspace(0, 1, 11):
        assert_allclose(motion.position(0.2 + 0.2 * u), 1 - 3 * u**2 + 2 * u**3, atol=1e-12)


def test_a_chunk_that_agrees_with_the_one_before_is_followed_to_the_last_bit_at_once():
    line = np.outer(TIMES, np.arange(7.0))
    motion = Replace(schedule(0.0, line), 0.15).then(schedule(0.1, line + 0.1 * np.arange(7.0)), 0.25)
    for now in np.linspace(0.25, 0.5, 9):
        assert_allclose(motion.position(now), now * np.arange(7.0), atol=1e-12)
