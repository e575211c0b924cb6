from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from vla_runtime.chunks.blend import Blend
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.fade import fade
from vla_runtime.chunks.schedule import Schedule

TIMES = 0.1 * np.arange(11)


def schedule(stamp, positions):
    return Schedule(ActionChunk(stamp, TIMES, positions))


def constant(stamp, value):
    return schedule(stamp, np.full((11, 7), value))


actions = arrays(np.float64, (11, 7), elements=st.floats(-3, 3))


@given(st.lists(actions, min_size=2, max_size=5), st.floats(0.02, 0.4), st.lists(st.floats(0, 1), max_size=20))
def test_it_stays_between_what_its_chunks_ask(positions, window, fractions):
    schedules = [schedule(0.05 * i, chunk) for i, chunk in enumerate(positions)]
    motion = Blend.first(schedules[0], window)
    for i, newer in enumerate(schedules[1:], 1):
        motion = motion.then(newer, 0.05 * i)
    last = 0.05 * (len(schedules) - 1)
    for now in last + np.array(fractions) * (1.0 - last):
        asked = [one.position(now) for one in schedules]
        position = motion.position(now)
        assert np.all(position >= np.min(asked, axis=0) - 1e-12)
        assert np.all(position <= np.max(asked, axis=0) + 1e-12)


@given(actions, actions, st.floats(0.02, 0.4), st.floats(0, 1))
def test_after_its_window_the_new_chunk_is_followed(former, newer, window, later):
    new = schedule(0.1, newer)
    motion = Blend.first(schedule(0.0, former), window).then(new, 0.2)
    now = 0.2 + window + 1e-9 + later
    assert_allclose(motion.position(now), new.position(now), rtol=0, atol=1e-13)


@given(st.floats(0, 0.3))
def test_a_cross_fade_starts_from_the_one_still_under_way(since):
    motion = Blend.first(constant(0.0, 0.0), 0.2).then(constant(0.1, 1.0), 0.1).then(constant(0.2, -1.0), 0.2)
    first = fade(0.1 + since, 0.2)[0]
    second = fade(since, 0.2)[0]
    assert_allclose(motion.position(0.2 + since), (1 - second) * first - second, atol=1e-12)


def test_a_chunk_that_ends_meanwhile_goes_on_straight():
    line = Schedule(ActionChunk(0.0, np.array([0.0, 0.1]), np.array([[0.0] * 7, [1.0] * 7])))
    motion = Blend.first(line, 0.2).then(constant(0.05, 0.0), 0.09)
    for now in (0.1, 0.15, 0.2):
        assert_allclose(motion.position(now), (1 - fade(now - 0.09, 0.2)[0]) * 10.0 * now, atol=1e-12)


def test_however_many_chunks_come_at_once_few_are_kept_and_nothing_jumps():
    rng = np.random.default_rng(0)
    motion = Blend.first(schedule(0.0, rng.normal(size=(11, 7))), 0.15)
    for i in range(1, 200):
        now = 0.001 * i
        newer = motion.then(schedule(0.0005 * i, rng.normal(size=(11, 7))), now)
        assert_allclose(newer.position(now), motion.position(now), atol=1e-12)
        assert_allclose(newer.velocity(now), motion.velocity(now), atol=1e-9)
        motion = newer
        assert len(motion.paths) <= 9
