from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from safetensors.numpy import load_file

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.ensemble import Ensemble
from vla_runtime.chunks.schedule import Schedule

GOLDENS = Path(__file__).resolve().parents[2] / "oracles" / "goldens"
TIMES = 0.1 * np.arange(6)
actions = arrays(np.float64, (6, 7), elements=st.floats(-3, 3))


def schedule(stamp, positions):
    return Schedule(ActionChunk(stamp, TIMES, positions))


def test_it_agrees_with_lerobots_ensembler_at_every_step():
    golden = load_file(GOLDENS / "ensemble.safetensors")
    step = 0.125  # [s], a binary fraction: every due time is exact
    horizon = golden["chunks"].shape[1]
    # One more action half a step earlier lets each chunk be there, faded in, when LeRobot's ensembler counts it first.
    times = np.concatenate(([-step / 2], step * np.arange(horizon)))
    for index, (chunk, expected) in enumerate(zip(golden["chunks"], golden["actions"], strict=True)):
        newer = Schedule(ActionChunk(index * step, times, np.concatenate((chunk[:1], chunk))))
        if index == 0:
            motion = Ensemble.first(newer, window=step / 8, decay=0.01)
        else:
            motion = motion.then(newer, (index - 0.25) * step)
        assert_allclose(motion.position(index * step), expected, rtol=1e-9, atol=1e-12)


@given(st.lists(actions, min_size=2, max_size=6), st.floats(0.02, 0.2), st.floats(0, 2), st.floats(0, 1))
def test_it_stays_between_what_its_chunks_ask_or_would_go_on_to_ask(positions, window, decay, fraction):
    schedules = [schedule(0.07 * i, chunk) for i, chunk in enumerate(positions)]
    motion = Ensemble.first(schedules[0], window, decay)
    for i, newer in enumerate(schedules[1:], 1):
        motion = motion.then(newer, 0.07 * i)
    start = 0.07 * (len(schedules) - 1)
    now = start + fraction * (motion.ends - start)
    asked = [one.position(now) for one in schedules if one.ends + window > now]
    position = motion.position(now)
    assert np.all(position >= np.min(asked, axis=0) - 1e-12)
    assert np.all(position <= np.max(asked, axis=0) + 1e-12)


def test_a_chunk_that_has_left_counts_no_more_not_even_in_the_order():
    one, two, three = (schedule(0.1 * i, np.full((6, 7), float(i))) for i in range(3))
    both = Ensemble.first(two, 0.05, 1.0).then(three, 0.2)
    all_three = Ensemble.first(one, 0.05, 1.0).then(two, 0.1).then(three, 0.2)
    expected = (1.0 + 2.0 * np.exp(-1.0)) / (1.0 + np.exp(-1.0))
    for now in (0.551, 0.6):
        assert_allclose(all_three.position(now), expected, rtol=1e-12)
        assert_allclose(both.position(now), expected, rtol=1e-12)


def test_it_goes_on_to_the_end_of_the_chunk_that_ends_last():
    motion = Ensemble.first(schedule(0.0, np.zeros((6, 7))), 0.05, 0.01)
    short = Schedule(ActionChunk(0.1, np.array([0.0, 0.1]), np.ones((2, 7))))
    motion = motion.then(short, 0.1)
    assert motion.ends == 0.5
    assert_allclose(motion.position(0.5), 0.0, atol=1e-12)


def test_however_many_chunks_come_at_once_few_are_kept_and_nothing_jumps():
    rng = np.random.default_rng(0)
    motion = Ensemble.first(schedule(0.0, rng.normal(size=(6, 7))), 0.15, 0.01)
    most = 0
    for i in range(1, 300):
        now = 0.001 * i
        newer = motion.then(schedule(0.0005 * i, rng.normal(size=(6, 7))), now)
        assert_allclose(newer.position(now), motion.position(now), atol=1e-12)
        assert_allclose(newer.velocity(now), motion.velocity(now), atol=1e-9)
        motion = newer
        most = max(most, len(motion.members))
    assert 24 < most <= 49
