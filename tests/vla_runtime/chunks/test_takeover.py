"""Whatever the strategy: a newer chunk takes over without a step in position or velocity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.schedule import INTERPOLATIONS, Schedule
from vla_runtime.chunks.takeover import TAKEOVERS, takeover
from vla_runtime.errors import BadInput

every_takeover = pytest.mark.parametrize("name", TAKEOVERS)


@st.composite
def lives(draw, interpolations=tuple(INTERPOLATIONS)):
    """Chunks, each with the time it takes over, at which the motion so far still asks something."""
    interpolation = draw(st.sampled_from(interpolations))
    window = draw(st.floats(0.02, 0.4))
    taken, schedules, now = [], [], 0.0
    for _ in range(draw(st.integers(2, 8))):
        horizon = draw(st.integers(2, 8))
        times = np.cumsum(draw(st.lists(st.floats(0.02, 0.3), min_size=horizon, max_size=horizon)))
        positions = draw(arrays(np.float64, (horizon, 7), elements=st.floats(-2, 2), fill=st.nothing()))
        past = draw(st.floats(0.0, 0.95)) * (times[-1] - times[0])
        schedules.append(Schedule(ActionChunk(now - past, times - times[0], positions), interpolation))
        taken.append(now)
        now += draw(st.floats(0.0, 1.0)) * (schedules[-1].ends - now)
    return window, list(zip(taken, schedules, strict=True))


@every_takeover
@given(life=lives())
def test_position_and_velocity_are_the_same_before_and_after_each_takeover(name, life):
    window, ((_, first), *others) = life
    motion = takeover(name, window=window)(first)
    for now, schedule in others:
        newer = motion.then(schedule, now)
        assert_allclose(newer.position(now), motion.position(now), rtol=0, atol=1e-9)
        scale = 1.0 + np.abs(motion.velocity(now)).max() + np.abs(schedule.velocity(now)).max()
        assert np.abs(newer.velocity(now) - motion.velocity(now)).max() <= 1e-9 * scale
        motion = newer


@every_takeover
@given(life=lives(("cubic",)))
def test_between_takeovers_nothing_steps_either(name, life):
    window, ((began, first), *others) = life
    motion = takeover(name, window=window)(first)
    so_far = [(began, first)]
    for now, schedule in others:
        motion = motion.then(schedule, now)
        so_far.append((now, schedule))
    turning = [time for now, one in so_far for time in (now + window, one.ends, one.ends + window, *one._due)]
    for time in turning:
        if not so_far[-1][0] < time < motion.ends:
            continue
        before, after = (motion.velocity(np.nextafter(time, side)) for side in (-np.inf, np.inf))
        assert np.abs(after - before).max() <= 1e-6 * (1.0 + np.abs(before).max())
        before, after = (motion.position(np.nextafter(time, side)) for side in (-np.inf, np.inf))
        assert np.abs(after - before).max() <= 1e-9


@every_takeover
@given(life=lives(("cubic",)), fraction=st.floats(0, 1))
def test_velocity_is_the_derivative_of_position(name, life, fraction):
    window, ((_, first), *others) = life
    motion = takeover(name, window=window)(first)
    start = 0.0
    for start, schedule in others:
        motion = motion.then(schedule, start)
    now = start + fraction * (motion.ends - start)
    # The mean velocity over a short time lies between the velocities in it.
    step = 1e-5
    steps = np.linspace(now, now + step, 21)
    found = (motion.position(now + step) - motion.position(now)) / step
    velocities = np.array([motion.velocity(time) for time in steps])
    slack = 1e-6 + 1e-4 * np.abs(velocities).max()
    assert np.all(found >= velocities.min(axis=0) - slack)
    assert np.all(found <= velocities.max(axis=0) + slack)


@every_takeover
@given(huge=arrays(np.float64, (3, 4, 7), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_huge_targets_do_not_overflow(name, huge):
    first, *others = (Schedule(ActionChunk(0.1 * i, 0.1 * np.arange(4), chunk)) for i, chunk in enumerate(huge))
    with np.errstate(over="raise", invalid="raise"):
        motion = takeover(name)(first)
        for i, schedule in enumerate(others, 1):
            motion = motion.then(schedule, 0.1 * i)
            assert np.isfinite(motion.position(0.1 * i + 0.01)).all()
            assert np.isfinite(motion.velocity(0.1 * i + 0.01)).all()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": "jump"}, "'jump' is unknown: choose from replace, blend, ensemble, rtc"),
        ({"name": "blend", "window": 0.0}, "window must be a finite number of seconds above 0, got 0.0"),
        ({"name": "replace", "window": np.nan}, "window"),
        ({"name": "ensemble", "decay": -0.1}, "decay must be a finite number, 0 or more, got -0.1"),
    ],
)
def test_what_is_no_strategy_is_refused(arguments, reason):
    with pytest.raises(BadInput, match=reason):
        takeover(**arguments)
