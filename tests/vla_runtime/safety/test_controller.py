from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.vla_runtime.safety.motion_checks import excess
from tests.vla_runtime.safety.rig import PERIOD, START, Rig, moved, sent
from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.executor import ChunkExecutor
from vla_runtime.safety.interventions import KINDS
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState


@pytest.fixture
def rig():
    return Rig()


def test_a_new_controller_sends_nothing_whatever_comes(rig):
    rig.enabled = True
    tick = rig.run(0.1, chunk=moved(0, 0.5))
    assert (tick.state, tick.command, tick.enable, tick.disable) == (ArmState.DISABLED, None, False, False)
    assert rig.controller.request_resume(rig.now) == "only a holding arm can resume; it is disabled"
    assert rig.controller.request_park(rig.now) == "only a holding or tracking arm can park; it is disabled"


def test_a_chunk_an_arm_can_follow_is_followed_through_time_untouched(rig):
    rig.track(START)
    times = np.arange(0, 0.9, 0.1)
    positions = START + 0.02 * np.eye(7)[0] * (1 - np.cos(2 * np.pi * times / 0.8))[:, None]
    chunk = ActionChunk(rig.now, times, positions)
    assert rig.controller.offer(chunk, rig.now) is None
    untouched = 0
    for _ in range(45):
        tick = rig.tick()
        untouched += np.array_equal(tick.command, tick.target)
        assert_allclose(tick.command, tick.target, atol=1e-3)
        assert tick.observed == chunk.stamp
    assert untouched >= 35  # but for where its acceleration jumps


def test_a_far_target_is_approached_at_the_limits_of_motion(rig):
    first = rig.track(moved(0, 1.1))
    assert np.abs(first.command - START).max() < 1e-4
    assert first.interventions == ("jerk_limit",)
    rig.run(1.3, chunk=moved(0, 1.1))
    assert_allclose(rig.positions[0], 1.1, atol=1e-6)
    times, commands = sent(rig)
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)
    assert_allclose(np.diff(commands[:, 0]).max(), PIPER_LIMITS.velocity[0] * PERIOD, rtol=1e-4)
    assert rig.controller.interventions["velocity_limit"] >= 75


def test_a_target_outside_is_followed_to_the_limit(rig):
    rig.track(moved(5, 9.0))
    tick = rig.run(2.8, chunk=moved(5, 9.0))
    assert_allclose(tick.command, moved(5, PIPER_LIMITS.upper[5]), atol=1e-6)
    assert np.all(tick.command <= PIPER_LIMITS.upper)
    assert "position_limit" in tick.interventions
    assert_allclose(tick.target[5], 9.0)


def test_a_dead_policy_leads_to_holding_within_its_timeout_and_one_period(rig):
    rig.track(moved(0, 0.9))
    last_chunk = rig.now - PERIOD
    while (tick := rig.tick()).state is ArmState.TRACKING:
        assert rig.now - last_chunk <= 0.5
    assert tick.state is ArmState.HOLDING
    assert 0.5 < rig.now - last_chunk <= 0.5 + 1.01 * PERIOD
    assert tick.reason.startswith("newest chunk is 0.5")
    assert tick.reason.endswith("s old, limit 0.500 s")
    assert rig.controller.interventions["stale_chunk"] == 1
    braked = tick.command
    held = rig.rest().command
    assert 0.0 < held[0] - braked[0] <= 0.12  # [rad], the way to rest from 1 rad/s
    assert_array_equal(rig.run(1.0).command, held)
    times, commands = sent(rig)
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)


def test_a_stale_hold_ends_by_itself_with_a_fresh_chunk(rig):
    rig.track(START)
    tick = rig.run(0.6)
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, False)
    rig.offer(moved(0, 0.5))
    tick = rig.tick()
    assert (tick.state, tick.reason) == (ArmState.TRACKING, "following chunks")
    assert tick.command[0] > START[0]


def test_a_chunk_that_ends_early_is_held_at_its_end(rig):
    rig.track(START)
    rig.offer(START, horizon=0.1)
    tick = rig.run(0.12)
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, False)
    assert tick.reason == "the chunk ended 0.010 s ago"
    assert rig.controller.interventions["no_action_due"] == 1


def test_a_late_chunk_is_refused_by_its_age(rig):
    rig.enable()
    assert rig.offer(START, age=0.6) == "the chunk is 0.600 s old, limit 0.500 s"
    assert rig.controller.interventions["chunk_refused"] == 1
    assert rig.tick().interventions == ("chunk_refused",)


def test_a_chunk_that_is_not_finite_stops_until_resumed(rig):
    rig.track(moved(0, 0.5))
    assert "not finite" in rig.offer(moved(3, np.nan))
    tick = rig.tick()
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, True)
    assert "not finite" in tick.reason
    assert tick.interventions == ("chunk_refused", "non_finite")
    held = rig.rest().command
    assert rig.run(0.2, chunk=moved(0, 0.5)).state is ArmState.HOLDING
    assert_array_equal(rig.positions, held)
    assert rig.controller.request_resume(rig.now) is None
    rig.offer(moved(0, 0.5))
    assert rig.tick().state is ArmState.TRACKING


def test_a_target_that_is_not_finite_though_its_chunk_was_stops(rig, monkeypatch):
    rig.track(moved(0, 0.5))
    rig.run(0.1, chunk=moved(0, 0.5))
    monkeypatch.setattr(ChunkExecutor, "target", lambda self, now: np.full(7, np.inf))
    tick = rig.tick()
    assert (tick.state, tick.reason, tick.needs_resume) == (ArmState.HOLDING, "the target is not finite", True)
    rig.rest()
    times, commands = sent(rig)
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)


def test_a_users_hold_needs_the_users_resume_and_keeps_the_first_reason(rig):
    rig.track(moved(0, 0.5))
    rig.controller.request_hold(rig.now, "someone walked in")
    rig.controller.request_hold(rig.now, "again")
    rig.faults = ("joint1 collision",)
    tick = rig.run(0.2, chunk=moved(0, 0.5))
    assert (tick.state, tick.reason) == (ArmState.HOLDING, "someone walked in")
    rig.faults = ()
    rig.tick()
    assert rig.controller.request_resume(rig.now) is None
    assert rig.run(0.02, chunk=moved(0, 0.5)).state is ArmState.TRACKING


def test_a_hold_while_a_stale_hold_waits_is_the_users(rig):
    rig.track(START)
    rig.run(0.6)
    rig.controller.request_hold(rig.now, "lunch")
    tick = rig.run(0.05, chunk=START)
    assert (tick.state, tick.reason, tick.needs_resume) == (ArmState.HOLDING, "lunch", True)


@pytest.mark.parametrize("lost", ["missing", "late", "future", "nan", "short", "absurd", "speed", "firmware"])
def test_without_sound_feedback_it_brakes_then_sends_nothing_and_resume_is_needed(rig, lost):
    rig.track(moved(0, 0.5))
    rig.run(0.2, chunk=moved(0, 0.5))

    def feedback():
        now = rig.now + PERIOD
        return {
            "missing": None,
            "late": ArmFeedback(now - 0.2, START, np.zeros(7), True),
            "future": ArmFeedback(now + 1.0, START, np.zeros(7), True),
            "nan": ArmFeedback(now, START * np.nan, np.zeros(7), True),
            "absurd": ArmFeedback(now, moved(2, 1e9), np.zeros(7), True),
            "short": ArmFeedback(now, START[:6], np.zeros(6), True),
            "speed": ArmFeedback(now, rig.positions, np.full(7, np.inf), True),
            "firmware": ArmFeedback(now, rig.positions, np.zeros(7), True, (), "garbage"),
        }[lost]

    tick = rig.tick(feedback())
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, True)
    assert "feedback" in tick.reason
    assert tick.interventions == ("feedback_lost",)
    assert tick.command[0] > rig.ticks[-2].command[0]  # on the way to rest
    while tick.command is not None:
        tick = rig.tick(feedback())
    times, commands = sent(rig)
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)
    assert np.ptp(commands[-2:], axis=0).max() < 1e-4
    if lost != "firmware":
        assert "feedback" in rig.controller.request_resume(rig.now)
    tick = rig.run(0.1, chunk=moved(0, 0.5))
    assert tick.state is ArmState.HOLDING
    assert_array_equal(tick.command, commands[-1])  # not from where it measures: it has been holding that
    assert rig.controller.request_resume(rig.now) is None


def test_feedback_that_stays_the_same_grows_old(rig):
    rig.track(START)
    frozen = rig.feedback()
    states = [rig.tick(frozen).state for _ in range(12)]
    assert states[:9] == [ArmState.TRACKING] * 9
    assert states[-1] is ArmState.HOLDING
    assert rig.ticks[-1].reason.endswith("s old, limit 0.100 s")


def test_after_lost_feedback_an_arm_that_was_moved_is_held_where_it_is_now(rig):
    rig.track(START)
    for _ in range(20):
        rig.tick(None)
    rig.positions = START + 0.5 * np.eye(7)[0]
    tick = rig.tick()
    assert_array_equal(tick.command, rig.positions)


def test_an_arm_fault_holds_until_it_is_gone_and_resumed(rig):
    rig.track(moved(0, 0.5))
    rig.faults = ("joint2 collision", "joint3 stalled")
    tick = rig.tick()
    assert (tick.state, tick.reason) == (ArmState.HOLDING, "the arm reports joint2 collision, joint3 stalled")
    assert_array_equal(rig.rest().command, rig.positions)
    assert rig.controller.request_resume(rig.now) == tick.reason
    assert rig.controller.request_park(rig.now) == tick.reason
    rig.faults = ()
    assert rig.run(0.1, chunk=moved(0, 0.5)).state is ArmState.HOLDING
    assert rig.controller.request_resume(rig.now) is None


def test_a_blocked_joint_stops_the_arm_and_takes_the_pressure_off(rig):
    rig.track(moved(0, 1.5))
    rig.stuck = True
    blocked_at = rig.positions[0]
    for _ in range(50):
        tick = rig.run(PERIOD, chunk=moved(0, 1.5))
        assert abs(tick.command[0] - blocked_at) <= 0.32
        if tick.state is not ArmState.TRACKING:
            break
    assert tick.state is ArmState.STOPPING
    assert tick.reason == "joint1 is 0.31 rad from its command, limit 0.30 rad"
    assert "divergence" in tick.interventions
    assert "it is stopping" in rig.controller.request_resume(rig.now)
    tick = rig.run(1.5, chunk=moved(0, 1.5))
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, True)
    assert abs(tick.command[0] - blocked_at) <= 0.05
    times, commands = sent(rig)
    assert commands[:, 0].max() - blocked_at <= 0.3 + 0.13  # [rad]: noticed at the one, stopped within the other
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)


def test_a_gripper_closed_on_an_object_is_no_divergence_and_keeps_its_grip():
    rig = Rig(start=moved(6, 0.06))
    rig.track(moved(6, 0.0, rig.positions))
    rig.stuck = True
    tick = rig.run(1.0, chunk=moved(6, 0.0, rig.positions))
    assert tick.state is ArmState.TRACKING
    assert tick.command[6] == 0.0
    rig.positions[0] += 0.5  # pushed away: the arm gives way, the grip stays
    tick = rig.run(1.0)
    assert (tick.state, tick.command[6]) == (ArmState.HOLDING, 0.0)


def test_a_false_reading_for_one_period_hardly_moves_the_arm(rig):
    rig.track(START)
    true = rig.feedback()
    rig.tick(ArmFeedback(rig.now, START + np.eye(7)[1], np.zeros(7), True, true.faults))
    tick = rig.run(0.5)
    assert tick.state is ArmState.HOLDING
    assert np.all(np.abs(tick.command - START) <= 1e-3)


@pytest.mark.parametrize("dt", [-0.001, -1e9, 0.6, 1e9, np.nan, np.inf])
def test_a_clock_that_jumps_stops_the_arm_on_its_way_to_rest(rig, dt):
    rig.track(moved(0, 0.5))
    rig.run(0.2, chunk=moved(0, 0.5))
    now = rig.now
    tick = rig.controller.tick(now + dt, ArmFeedback(now + dt, rig.positions, np.zeros(7), True))
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, True)
    assert "clock moved" in tick.reason
    assert tick.interventions[0] == "clock_jump"
    if np.isfinite(dt):
        rig.ticks.append(tick)
        rig.now = now + dt
        rig.rest()
        times, commands = sent(rig)  # as if the jump had been one period: what the arm saw
        assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)


@pytest.mark.parametrize("step", [-30.0, -0.1, -0.03, 0.03, 0.1, 0.3, 0.49, 30.0])
def test_a_clock_that_is_set_makes_the_arm_no_faster(rig, step):
    """The loop's own clock says that one period passed, whatever the clock of the stamps says."""
    rig.track(moved(0, 0.5))
    rig.run(0.2, chunk=moved(0, 0.5))
    before, period = rig.now, 0.01
    set_clock = step + period
    for n in range(60):
        now = before + set_clock + n * period
        tick = rig.controller.tick(now, ArmFeedback(now, rig.positions, np.zeros(7), True), period)
        if n == 0 and abs(step) > 0.05:
            assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, True)
            assert tick.reason == f"the clock moved by {set_clock:.3f} s while 0.010 s passed"
        rig.ticks.append(tick)
    times, commands = sent(rig)
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)


def test_after_a_long_silence_the_arm_is_held_where_it_is_now(rig):
    rig.track(START)
    rig.positions = START + 0.5 * np.eye(7)[0]
    tick = rig.tick(dt=60.0)
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, True)
    assert_array_equal(tick.command, START + 0.5 * np.eye(7)[0])


def test_after_the_clock_went_back_chunks_of_the_new_time_are_taken(rig):
    rig.track(moved(0, 0.5))
    rig.tick(dt=-100.0)
    assert rig.controller.request_resume(rig.now) is None
    assert rig.offer(moved(0, 0.5)) is None
    assert rig.tick().state is ArmState.TRACKING


def test_a_late_tick_holds_and_brakes_for_as_long_as_it_was_late(rig):
    rig.track(moved(0, 1.0))
    rig.run(0.4, chunk=moved(0, 1.0))
    before = rig.positions[0]
    rig.offer(moved(0, 1.0))
    tick = rig.tick(dt=0.4)
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, False)
    assert tick.reason == "the control loop is 0.390 s late, limit 0.100 s"
    assert tick.interventions == ("loop_overrun",)
    assert 0 < tick.command[0] - before <= 0.12  # [rad], the way to rest
    rig.offer(moved(0, 1.0))
    assert rig.tick().state is ArmState.TRACKING


def test_a_period_that_the_loop_says_took_too_long_holds_too(rig):
    rig.track(START)
    rig.controller.overran(0.05)
    assert rig.tick().state is ArmState.TRACKING
    rig.controller.overran(0.2)
    rig.controller.overran(0.01)
    tick = rig.tick()
    assert (tick.state, tick.reason) == (ArmState.HOLDING, "the control loop is 0.200 s late, limit 0.100 s")
    assert rig.tick().state is ArmState.TRACKING


@pytest.mark.parametrize("dt", [0.0, 0.002, 0.03, 0.09])
def test_uneven_ticks_keep_the_limits(rig, dt):
    rig.track(moved(0, 1.0))
    now, times, commands = rig.now, [], []
    for tick in range(150):
        rig.offer(moved(0, 1.0))
        rig.now += PERIOD if tick % 3 else dt
        done = rig.controller.tick(rig.now, rig.feedback())
        rig.positions = done.command.copy()
        if not times or rig.now > times[-1]:
            times.append(rig.now)
            commands.append(done.command)
    assert np.all(
        excess(np.array(times) - now, np.array(commands), PIPER_LIMITS) <= 1e-3
    )  # of the clock's own rounding


def test_every_kind_of_intervention_is_counted_from_zero(rig):
    assert dict(rig.controller.interventions) == dict.fromkeys(KINDS, 0)


def test_ticks_and_counters_agree(rig):
    rig.track(moved(0, 0.5))
    rig.run(0.7)
    rig.tick(None)
    rig.run(0.1)
    seen = [name for tick in rig.ticks for name in tick.interventions]
    assert {name: seen.count(name) for name in KINDS} == dict(rig.controller.interventions)


def test_a_command_is_the_callers_own(rig):
    rig.enable()
    rig.ticks[-1].command[:] = 99.0
    rig.positions = START.copy()
    assert_array_equal(rig.tick().command, START)
