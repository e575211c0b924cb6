from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tests.vla_runtime.safety.motion_checks import excess
from tests.vla_runtime.safety.rig import PERIOD, START, Rig, moved, sent
from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState
from vla_runtime.safety.workspace import Workspace


@pytest.fixture
def rig():
    return Rig()


def test_enabling_asks_once_and_holds_the_measured_position_until_power_is_there(rig):
    rig.controller.request_enable(rig.now)
    asked = []
    for _ in range(5):
        tick = rig.controller.tick(rig.now, rig.feedback())
        rig.now += PERIOD
        asked.append(tick.enable)
        assert tick.state is ArmState.ENABLING
        assert_array_equal(tick.command, rig.positions)
        rig.positions = rig.positions + 0.01  # the unpowered arm is moved by hand
    assert asked == [True, False, False, False, False]
    rig.enabled = True
    tick = rig.tick()
    assert (tick.state, tick.reason, tick.needs_resume) == (ArmState.HOLDING, "enabled", True)


def test_enabling_waits_for_feedback_before_it_asks(rig):
    rig.controller.request_enable(rig.now)
    tick = rig.tick(feedback=None)
    assert (tick.state, tick.enable, tick.command) == (ArmState.ENABLING, False, None)
    assert rig.tick().enable


def test_an_arm_that_does_not_power_up_is_given_up(rig):
    rig.controller.request_enable(rig.now)
    for _ in range(502):
        tick = rig.controller.tick(rig.now, rig.feedback())
        rig.now += PERIOD
    assert (tick.state, tick.reason) == (ArmState.DISABLED, "not enabled: no motor power within 5.000 s")
    assert rig.controller.interventions["enable_failed"] == 1


def test_a_faulty_arm_is_not_enabled(rig):
    rig.faults = ("joint3 stalled",)
    rig.controller.request_enable(rig.now)
    tick = rig.tick()
    assert (tick.state, tick.enable) == (ArmState.DISABLED, False)
    assert tick.reason == "not enabled: the arm reports joint3 stalled"


def test_after_enabling_chunks_move_nothing_before_resume(rig):
    rig.enable()
    tick = rig.run(0.5, chunk=moved(0, 0.5))
    assert (tick.state, tick.target) == (ArmState.HOLDING, None)
    assert_array_equal(tick.command, START)


def test_an_arm_that_lost_power_is_sent_nothing_until_enabled_again(rig):
    rig.track(moved(0, 0.5))
    rig.enabled = False
    tick = rig.tick()
    assert (tick.state, tick.command) == (ArmState.DISABLED, None)
    assert tick.reason == "the arm reports its motors off"
    rig.enabled = True
    assert rig.run(0.1, chunk=moved(0, 0.5)).command is None
    assert rig.controller.interventions["power_lost"] == 1


def test_parking_moves_at_park_speed_then_holds_parked(rig):
    rig.enable()
    assert rig.controller.request_park(rig.now) is None
    tick = rig.run(PERIOD)
    assert tick.state is ArmState.PARKING
    tick = rig.run(2.4, chunk=moved(0, 0.5))
    assert (tick.state, tick.reason, tick.needs_resume) == (ArmState.HOLDING, "parked", True)
    assert_allclose(tick.command, np.zeros(7), atol=1e-5)
    times, commands = sent(rig)
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)
    speeds = np.abs(np.diff(commands, axis=0)).max(axis=0) / PERIOD
    assert_allclose(speeds[1:3], 0.5, atol=1e-5)
    assert np.all(speeds <= 0.5 * PIPER_LIMITS.velocity * (1 + 1e-6))


def test_parking_is_stopped_by_hold_and_by_fault_but_not_by_a_bad_chunk(rig):
    rig.enable()
    rig.controller.request_park(rig.now)
    rig.run(0.1)
    rig.offer(START * np.nan)
    assert rig.tick().state is ArmState.PARKING
    rig.controller.request_hold(rig.now, "stop")
    assert rig.tick().state is ArmState.HOLDING
    assert rig.controller.request_park(rig.now) is None
    rig.faults = ("joint1 collision",)
    assert rig.tick().state is ArmState.HOLDING


def test_an_arm_short_of_its_park_position_is_not_parked(rig):
    rig.enable()
    rig.controller.request_park(rig.now)
    rig.run(1.9)
    rig.stuck = True
    assert rig.positions[1] > 0.05
    tick = rig.run(0.3)
    assert tick.state is ArmState.PARKING
    assert "would drop" in rig.controller.request_disable(rig.now)


def test_disabling_away_from_park_needs_force(rig):
    rig.enable()
    refusal = rig.controller.request_disable(rig.now)
    assert refusal == "the arm could drop: joint2 is 1.00 rad from its park position; park it first, or force"
    assert not rig.tick().disable
    assert rig.controller.request_disable(rig.now, force=True) is None
    assert rig.controller.request_enable(rig.now) == "the arm is being disabled"
    tick = rig.tick()
    assert (tick.state, tick.disable, tick.command) == (ArmState.DISABLED, True, None)
    assert not rig.tick().disable


@pytest.mark.parametrize("age", [None, 0.2])
def test_disabling_blind_needs_force_even_at_the_park_position(age):
    rig = Rig(start=np.zeros(7))
    rig.enable()
    rig.tick(None if age is None else ArmFeedback(rig.now - age, np.zeros(7), np.zeros(7), True))
    assert "arm feedback" in rig.controller.request_disable(rig.now)
    assert not rig.tick().disable
    rig.tick(None)
    assert rig.controller.request_disable(rig.now, force=True) is None


def test_a_parked_arm_is_disabled_on_request():
    rig = Rig(start=np.zeros(7))
    rig.enable()
    assert rig.controller.request_disable(rig.now) is None
    assert rig.tick().disable


def test_force_cuts_the_power_of_a_moving_arm(rig):
    rig.track(moved(0, 0.5))
    assert "tracking and would drop" in rig.controller.request_disable(rig.now)
    assert rig.controller.request_disable(rig.now, force=True) is None
    tick = rig.tick()
    assert (tick.disable, tick.command) == (True, None)


def test_an_arm_that_moves_when_power_comes_is_brought_to_rest_from_that_speed(rig):
    rig.controller.request_enable(rig.now)
    falling = np.where(np.arange(7) == 1, 0.4, 0.0)
    rig.tick()
    for _ in range(60):
        rig.now += PERIOD
        tick = rig.controller.tick(rig.now, ArmFeedback(rig.now, rig.positions, falling, rig.enabled))
        rig.ticks.append(tick)
        rig.positions, falling = tick.command, np.zeros(7)
        rig.enabled = True
    assert tick.state is ArmState.HOLDING
    times, commands = sent(rig)
    assert 0.01 < commands[-1][1] - START[1] < 0.03
    assert_array_equal(commands[-1], commands[-2])
    assert np.all(excess(times[1:], commands[1:], PIPER_LIMITS) <= 1e-6)


def test_power_is_asked_for_at_most_once_in_an_interval(rig):
    rig.enable()
    rig.controller.request_disable(rig.now, force=True)
    rig.tick()
    refusal = rig.controller.request_enable(rig.now)
    assert refusal == "the arm was asked for power 0.020 s ago, at most once in 1.000 s"
    rig.run(0.99)
    assert rig.controller.request_enable(rig.now) is None


def test_a_faulty_arm_that_was_never_asked_for_power_may_be_asked_at_once(rig):
    rig.faults = ("joint3 stalled",)
    rig.controller.request_enable(rig.now)
    rig.tick()
    assert rig.controller.request_enable(rig.now) is None


def test_parking_stops_where_the_way_would_lead_the_arm_into_itself():
    rig = Rig(start=np.array([0, 0.5, -0.5, 0, 1.2, 0, 0.0]))
    rig.enable()
    assert rig.controller.request_park(rig.now) is None
    while (tick := rig.tick()).state is ArmState.PARKING:
        pass
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, True)
    assert tick.reason.endswith("would come too near each other")
    assert tick.interventions[-1] == "self_collision"


def test_a_park_position_where_the_arm_must_not_be_is_refused():
    with pytest.raises(BadInput, match="park_positions: .* would come too near"):
        Rig(park_positions=[0, 0, 0, 0, 1.2, 0, 0])
    with pytest.raises(BadInput, match="park_positions: .* too near the table"):
        Rig(workspace=Workspace(table_height=0.3))
