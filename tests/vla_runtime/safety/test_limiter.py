from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from vla_runtime.safety.interventions import NON_FINITE, POSITION_LIMIT, VELOCITY_LIMIT
from vla_runtime.safety.limiter import Limiter
from vla_runtime.safety.limits import PIPER_LIMITS

MAX_DT = 0.02
anything = arrays(np.float64, 7, elements=st.floats(allow_nan=True, allow_infinity=True))
any_dt = st.one_of(st.floats(0, 0.1), st.floats(allow_nan=True, allow_infinity=True))
inputs = st.lists(st.tuples(anything, any_dt), min_size=1, max_size=50)
inside = arrays(np.float64, 7, elements=st.floats(0, 1)).map(
    lambda part: np.clip(
        PIPER_LIMITS.lower + part * (PIPER_LIMITS.upper - PIPER_LIMITS.lower), PIPER_LIMITS.lower, PIPER_LIMITS.upper
    )
)
nearby = arrays(np.float64, 7, elements=st.floats(-10, 10))


def outside_by(position):
    return np.maximum(np.maximum(PIPER_LIMITS.lower - position, position - PIPER_LIMITS.upper), 0.0)


@given(inside, inputs)
def test_from_inside_no_input_leads_outside_or_too_fast(start, sequence):
    limiter, previous = Limiter(PIPER_LIMITS, MAX_DT), start
    for desired, dt in sequence:
        command, _ = limiter.step(desired, previous, dt)
        assert np.isfinite(command).all()
        assert np.all(command >= PIPER_LIMITS.lower)
        assert np.all(command <= PIPER_LIMITS.upper)
        allowed = min(max(dt, 0.0), MAX_DT) if np.isfinite(dt) else 0.0
        assert np.all(np.abs(command - previous) <= PIPER_LIMITS.velocity * allowed + 1e-14)
        previous = command


@given(nearby, inputs)
def test_from_outside_every_step_leads_back(start, sequence):
    limiter, previous = Limiter(PIPER_LIMITS, MAX_DT), start
    for desired, dt in sequence:
        command, _ = limiter.step(desired, previous, dt)
        assert np.all(outside_by(command) <= outside_by(previous))
        assert np.all(np.abs(command - previous) <= PIPER_LIMITS.velocity * MAX_DT + 1e-14)
        previous = command


def test_an_arm_pushed_outside_comes_back_at_the_velocity_limit_and_stays():
    limiter, command = Limiter(PIPER_LIMITS, MAX_DT), np.array([0.0, -0.025, 0.0, 0.0, 0.0, 0.0, 0.0])
    seen = []
    for _ in range(5):
        command, _ = limiter.step(command, command, 0.01)
        seen.append(command[1])
    assert_allclose(seen, [-0.015, -0.005, 0.0, 0.0, 0.0], atol=1e-15)


@given(inside, inside)
def test_a_target_inside_and_within_reach_is_met_exactly_and_untouched(start, other):
    desired = np.clip(other, start - PIPER_LIMITS.velocity * 0.009, start + PIPER_LIMITS.velocity * 0.009)
    command, interventions = Limiter(PIPER_LIMITS, MAX_DT).step(desired, start, 0.01)
    assert_array_equal(command, desired)
    assert interventions == ()


@given(inside, inside)
def test_any_allowed_target_is_reached_in_the_time_the_velocity_needs(start, goal):
    limiter, command = Limiter(PIPER_LIMITS, MAX_DT), start
    steps = int(np.ceil(np.max(np.abs(goal - start) / (PIPER_LIMITS.velocity * MAX_DT)))) + 1
    for _ in range(steps):
        command, _ = limiter.step(goal, command, MAX_DT)
    assert_array_equal(command, goal)


def test_a_late_tick_makes_no_larger_step_than_max_dt():
    limiter = Limiter(PIPER_LIMITS, MAX_DT)
    start, goal = PIPER_LIMITS.lower, PIPER_LIMITS.upper
    late, _ = limiter.step(goal, start, 10.0)
    assert_allclose(late, start + PIPER_LIMITS.velocity * MAX_DT)


@pytest.mark.parametrize(
    ("desired", "kinds"),
    [
        (np.array([0.005, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03]), ()),
        (np.array([0.5, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03]), (VELOCITY_LIMIT,)),
        (np.array([0.0, 1.0, -1.0, 0.0, 0.0, 9.0, 0.03]), (POSITION_LIMIT, VELOCITY_LIMIT)),
        (np.array([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, np.nan]), (NON_FINITE,)),
    ],
)
def test_interventions_are_named(desired, kinds):
    start = np.array([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03])
    assert Limiter(PIPER_LIMITS, MAX_DT).step(desired, start, 0.01)[1] == kinds


def test_at_the_limit_only_the_position_limit_intervenes():
    at_limit = np.array([PIPER_LIMITS.upper[0], 1.0, -1.0, 0.0, 0.0, 0.0, 0.03])
    command, kinds = Limiter(PIPER_LIMITS, MAX_DT).step(at_limit + np.eye(7)[0], at_limit, 0.01)
    assert_array_equal(command, at_limit)
    assert kinds == (POSITION_LIMIT,)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_without_a_finite_previous_command_there_is_nothing_to_hold(bad):
    with pytest.raises(ValueError, match="previous command must be finite"):
        Limiter(PIPER_LIMITS, MAX_DT).step(np.zeros(7), np.full(7, bad), 0.01)
