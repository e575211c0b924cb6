from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from tests.vla_runtime.safety.motion_checks import excess, outside
from vla_runtime.safety.command_motion import AxisMotion, BrakingWay, CommandMotion, starting
from vla_runtime.safety.interventions import (
    ACCELERATION_LIMIT,
    JERK_LIMIT,
    NON_FINITE,
    POSITION_LIMIT,
    VELOCITY_LIMIT,
)
from vla_runtime.safety.limiter import Limiter
from vla_runtime.safety.limits import PIPER_LIMITS, ArmLimits, piper_limits

PERIOD = 0.01
FINEST = 1.7e-5  # [rad], what one step of a PiPER's frames is worth
LIMITER = Limiter(PIPER_LIMITS)
SLOW = piper_limits(velocity=[0.3] * 6 + [0.02], acceleration=[0.8] * 6 + [0.1], jerk=[9.0] * 6 + [1.0])
START = np.array([0.1, 1.0, -1.0, 0.2, 0.3, -0.1, 0.02])

part = arrays(np.float64, 7, elements=st.floats(0, 1))
inside = part.map(lambda x: PIPER_LIMITS.lower + x * (PIPER_LIMITS.upper - PIPER_LIMITS.lower))
speeds = part.map(lambda x: (2 * x - 1) * PIPER_LIMITS.velocity)
anywhere = arrays(np.float64, 7, elements=st.one_of(st.floats(-4, 4), st.floats(allow_nan=True, allow_infinity=True)))
periods = st.one_of(st.just(PERIOD), st.just(0.0), st.floats(1e-3, 0.5))
wishes = st.one_of(st.none(), anywhere, inside, st.just(PIPER_LIMITS.upper), st.just(PIPER_LIMITS.lower))
sequences = st.lists(st.tuples(wishes, periods, st.integers(1, 30)), min_size=1, max_size=15)


def run(limiter, motion, wishes):
    """The times and positions that were sent, without those of no length, and all interventions."""
    times, positions, kinds = [0.0], [motion.positions], []
    for desired, dt in wishes:
        motion, done = limiter.step(motion, desired, dt)
        kinds.append(done)
        if dt > 0:
            times.append(times[-1] + dt)
            positions.append(motion.positions)
        else:
            assert_array_equal(motion.positions, positions[-1])
    return motion, np.array(times), np.array(positions), kinds


def expanded(sequence):
    return [(desired, dt) for desired, dt, repeats in sequence for _ in range(repeats)]


def rested(position):
    return starting(np.asarray(position, dtype=float), np.zeros(7), PIPER_LIMITS)


@pytest.mark.parametrize("limits", [PIPER_LIMITS, SLOW])
@given(start=inside, sequence=sequences)
@settings(max_examples=150)
def test_from_rest_inside_nothing_breaks_a_limit(limits, start, sequence):
    _, times, positions, _ = run(Limiter(limits), rested(start), expanded(sequence))
    assert np.all(outside(positions, limits) == 0)
    assert np.all(excess(times, positions, limits) <= 1e-6)


@given(position=inside, velocity=speeds, sequence=sequences)
@settings(max_examples=150)
def test_a_moving_start_breaks_no_limit_and_leaves_only_as_far_as_it_must(position, velocity, sequence):
    motion = starting(position, velocity, PIPER_LIMITS)
    least, greatest = BrakingWay(motion, PIPER_LIMITS).reaches
    _, times, positions, _ = run(LIMITER, motion, expanded(sequence))
    assert np.all(positions <= np.maximum(PIPER_LIMITS.upper, greatest) + 1e-12)
    assert np.all(positions >= np.minimum(PIPER_LIMITS.lower, least) - 1e-12)
    assert np.all(excess(times, positions, PIPER_LIMITS) <= 1e-6)


@given(start=inside, sequence=sequences)
def test_at_any_moment_braking_ends_inside(start, sequence):
    motion = rested(start)
    for desired, dt in expanded(sequence):
        motion, _ = LIMITER.step(motion, desired, dt)
        assert np.all(outside(BrakingWay(motion, PIPER_LIMITS).postures(20), PIPER_LIMITS) <= 1e-12)


@given(start=arrays(np.float64, 7, elements=st.floats(-10, 10)), sequence=sequences)
def test_from_outside_nothing_leads_further_out_and_motion_keeps_its_limits(start, sequence):
    motion, before = rested(start), outside(start, PIPER_LIMITS)
    _, times, positions, _ = run(LIMITER, motion, expanded(sequence))
    assert np.all(outside(positions, PIPER_LIMITS) <= before + 1e-12)
    assert np.all(excess(times, positions, PIPER_LIMITS) <= 1e-6)


def test_an_arm_pushed_outside_is_brought_back_and_stays():
    motion, _, positions, _ = run(LIMITER, rested([0, -0.025, 0, 0, 0, 0, 0]), [(None, PERIOD)] * 60)
    assert np.all(np.diff(positions[:, 1]) >= 0)
    assert np.all(positions[-1] >= 0)
    assert_allclose(positions[-1], 0.0, atol=FINEST)
    assert motion.at_rest


def smooth(times, share):
    """From rest into an oscillation that uses ``share`` of the velocity, acceleration and jerk limits. Shape (n, 7)."""
    ramp = np.minimum(times / 2.0, 1.0)
    envelope = ramp**4 * (35 - 84 * ramp + 70 * ramp**2 - 20 * ramp**3)
    frequency = np.array([2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 6.0])
    height = share * np.min(
        [
            PIPER_LIMITS.velocity / frequency,
            PIPER_LIMITS.acceleration / frequency**2,
            PIPER_LIMITS.jerk / frequency**3,
        ],
        axis=0,
    )
    return START + envelope[:, None] * height * np.sin(frequency * times[:, None])


uneven = st.lists(st.one_of(st.just(PERIOD), st.floats(0.002, 0.03)), min_size=300, max_size=300)


@given(dts=uneven, share=st.floats(0.0, 0.75))
@settings(max_examples=30)
def test_a_feasible_stream_passes_bit_for_bit_at_any_times(dts, share):
    stream = smooth(np.cumsum(dts), share)
    _, _, positions, kinds = run(LIMITER, rested(START), zip(stream, dts, strict=True))
    assert_array_equal(positions[1:], stream)
    assert not any(kinds)


def test_what_a_stream_shows_measured_is_within_limits_where_it_passed():
    times = PERIOD * np.arange(1, 600)
    stream = smooth(times, 0.75)
    assert np.all(excess(times, stream, PIPER_LIMITS) <= 0)
    assert excess(times, stream, PIPER_LIMITS)[0] > -0.35  # it is no crawl


@given(start=inside, goal=inside)
@settings(max_examples=25)
def test_a_step_is_reached_without_overshoot_and_kept(start, goal):
    motion, _, positions, _ = run(LIMITER, rested(start), [(goal, PERIOD)] * 650)
    assert_allclose(motion.positions, goal, atol=1e-6)
    assert motion.at_rest
    beyond = (positions - goal) * np.sign(goal - start)
    assert np.all(beyond <= FINEST)
    assert np.all(np.diff(positions, axis=0) * np.sign(goal - start) >= -FINEST)


def least_time(distance, velocity, acceleration, jerk):
    """From rest to rest: Biagiotti and Melchiorri, *Trajectory Planning for Automatic Machines and Robots*, 3.4."""
    if distance >= velocity * (velocity / acceleration + acceleration / jerk):
        return distance / velocity + velocity / acceleration + acceleration / jerk
    if distance >= 2 * acceleration**3 / jerk**2:
        return acceleration / (2 * jerk) * 2 + np.sqrt(4 * distance / acceleration + (acceleration / jerk) ** 2)
    return 4 * np.cbrt(distance / (2 * jerk))


@pytest.mark.parametrize("distance", [0.001, 0.01, 0.05, 0.2, 1.0, 2.0])
def test_a_step_takes_little_more_than_the_least_possible_time(distance):
    goal = START + distance * np.eye(7)[0]
    _, times, positions, _ = run(LIMITER, rested(START), [(goal, PERIOD)] * 400)
    arrival = times[int(np.argmax(positions[:, 0] == goal[0]))]
    least = least_time(distance, *(getattr(PIPER_LIMITS, name)[0] for name in ("velocity", "acceleration", "jerk")))
    assert least - PERIOD <= arrival <= least + 5 * PERIOD


def test_a_moving_target_that_jumped_is_caught_and_then_followed_exactly():
    times = PERIOD * np.arange(1, 600)
    stream = smooth(times, 0.5)
    stream[300:, :6] += 0.05
    _, times, positions, kinds = run(LIMITER, rested(START), [(x, PERIOD) for x in stream])
    assert_array_equal(positions[1:301], stream[:300])
    assert any(kinds[300:340])
    assert_array_equal(positions[351:], stream[350:])
    assert not any(kinds[350:])


def test_reversing_noise_is_not_amplified():
    rng = np.random.default_rng(3)
    stream = START + 0.01 * PIPER_LIMITS.velocity * rng.choice([-1.0, 1.0], (500, 7))
    _, _, positions, _ = run(LIMITER, rested(START), [(x, PERIOD) for x in stream])
    assert np.all(np.abs(positions - START) <= 0.0105 * PIPER_LIMITS.velocity)


def test_nothing_desired_brakes_along_the_way_there_is_and_stays():
    moving, *_ = run(LIMITER, rested(START), [(START + 2.0, PERIOD)] * 40)
    end = BrakingWay(moving, PIPER_LIMITS).end
    motion, _, positions, kinds = run(LIMITER, moving, [(None, 0.013)] * 60)
    assert_allclose(motion.positions, end, atol=1e-12)
    assert motion.at_rest
    assert_array_equal(positions[-20:], np.tile(motion.positions, (20, 1)))
    assert not any(kinds)


def test_one_late_period_goes_no_further_than_the_stop():
    moving, *_ = run(LIMITER, rested(START), [(START + 2.0, PERIOD)] * 40)
    end = BrakingWay(moving, PIPER_LIMITS).end
    late, _ = LIMITER.step(moving, None, 10.0)
    assert_allclose(late.positions, end, atol=1e-12)


@pytest.mark.parametrize("dt", [0.0, -0.01, np.nan, np.inf])
def test_no_time_changes_nothing(dt):
    moving, *_ = run(LIMITER, rested(START), [(START + 2.0, PERIOD)] * 10)
    assert LIMITER.step(moving, START, dt)[0] == moving


@pytest.mark.parametrize(
    ("start", "desired", "kinds"),
    [
        (START, START + 1e-6, ()),
        (START, START + 0.5 * np.eye(7)[0], (JERK_LIMIT,)),
        (START, np.where(np.arange(7) == 5, 9.0, START), (POSITION_LIMIT, JERK_LIMIT)),
        (START, START * np.nan, (NON_FINITE,)),
        (PIPER_LIMITS.upper, PIPER_LIMITS.upper + np.eye(7)[0], (POSITION_LIMIT,)),
    ],
)
def test_interventions_are_named(start, desired, kinds):
    assert LIMITER.step(rested(start), desired, PERIOD)[1] == kinds


def test_a_long_way_is_held_back_by_jerk_then_acceleration_then_velocity():
    _, _, _, kinds = run(LIMITER, rested(START), [(START + 2.0 * np.eye(7)[0], PERIOD)] * 100)
    order = [kind for before, kind in zip([(), *kinds], kinds, strict=False) if kind != before]
    assert order[:3] == [(JERK_LIMIT,), (ACCELERATION_LIMIT,), (JERK_LIMIT,)]
    assert (VELOCITY_LIMIT,) in order


def test_a_speed_beyond_the_limit_counts_as_the_limit_and_none_as_none():
    motion = starting(START, np.array([9.0, -9.0, np.nan, np.inf, 0, 0, 0]), PIPER_LIMITS)
    assert [axis.velocity for axis in motion.axes] == [1.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_without_a_finite_command_there_is_nothing_to_hold(bad):
    motion = CommandMotion((AxisMotion(bad),) * 7)
    with pytest.raises(ValueError, match="previous command must be finite"):
        LIMITER.step(motion, np.zeros(7), PERIOD)


def test_a_joint_that_may_not_move_stays():
    fixed = ArmLimits(START, START, PIPER_LIMITS.velocity)
    _, _, positions, _ = run(Limiter(fixed), rested(START), [(START + 1.0, PERIOD)] * 20)
    assert_array_equal(positions, np.tile(START, (21, 1)))
