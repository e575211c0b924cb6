"""What the controller is told from outside, and what its surroundings forbid."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.vla_runtime.safety.motion_checks import excess
from tests.vla_runtime.safety.rig import PERIOD, START, Rig, moved, sent
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.states import ArmState
from vla_runtime.safety.workspace import Workspace

WATCHED = {"policy heartbeat": 0.3, "camera side": 0.2}


def watched_rig():
    rig = Rig(watchdogs=WATCHED)
    for name in WATCHED:
        assert rig.controller.heard(name, rig.now + 2 * PERIOD) is None
    rig.track(START)
    return rig


def test_it_does_not_track_before_everything_watched_has_been_heard():
    rig = Rig(watchdogs=WATCHED)
    rig.enable()
    rig.controller.request_resume(rig.now)
    rig.controller.heard("camera side", rig.now)
    assert rig.run(0.05, chunk=START).state is ArmState.HOLDING
    rig.controller.heard("policy heartbeat", rig.now)
    assert rig.run(0.02, chunk=START).state is ArmState.TRACKING


@pytest.mark.parametrize(
    ("alive", "reason"),
    [("policy heartbeat", "camera side is 0.2"), ("camera side", "policy heartbeat is 0.3")],
)
def test_what_stays_away_pauses_and_its_return_goes_on(alive, reason):
    rig = watched_rig()
    for _ in range(45):
        rig.controller.heard(alive, rig.now)
        rig.offer(START)
        tick = rig.tick()
    assert (tick.state, tick.needs_resume) == (ArmState.HOLDING, False)
    assert tick.reason.startswith(reason)
    assert rig.controller.interventions["watchdog"] == 1
    for name in WATCHED:
        rig.controller.heard(name, rig.now)
    rig.offer(START)
    assert rig.tick().state is ArmState.TRACKING


@pytest.mark.parametrize("stamp", [np.nan, np.inf, 1e9])
def test_a_stamp_that_is_none_does_not_count_as_heard(stamp):
    rig = watched_rig()
    rig.controller.heard("camera side", stamp)
    rig.offer(START)
    assert rig.tick().state is ArmState.HOLDING


def test_after_a_jump_of_the_clock_all_must_be_heard_anew():
    rig = watched_rig()
    rig.tick(dt=-0.1)
    rig.controller.request_resume(rig.now)
    rig.offer(START)
    assert rig.tick().state is ArmState.HOLDING


def test_what_is_not_watched_is_refused_by_name():
    rig = watched_rig()
    assert rig.controller.heard("camera top", rig.now) == (
        "nothing called 'camera top' is watched: policy heartbeat, camera side"
    )
    assert Rig().controller.heard("x", 0.0) == "nothing called 'x' is watched: no watchdogs are set"


def test_a_command_that_could_not_be_sent_stops_the_arm():
    rig = Rig()
    rig.track(moved(0, 0.5))
    rig.run(0.2, chunk=moved(0, 0.5))
    rig.controller.failed("the CAN bus is off", rig.now)
    rig.controller.failed("still off", rig.now)
    tick = rig.tick()
    assert (tick.state, tick.reason, tick.needs_resume) == (ArmState.HOLDING, "the CAN bus is off", True)
    assert tick.interventions == ("send_failed",)
    held = rig.rest().command
    assert_array_equal(rig.run(0.1, chunk=moved(0, 0.5)).command, held)
    times, commands = sent(rig)
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)


def test_an_enabling_that_could_not_be_sent_is_given_up():
    rig = Rig()
    rig.controller.request_enable(rig.now)
    rig.tick()
    rig.controller.failed("the CAN bus is off", rig.now)
    assert (rig.controller.state, rig.tick().reason) == (ArmState.DISABLED, "not enabled: the CAN bus is off")
    assert rig.controller.interventions["enable_failed"] == 1


def test_the_way_under_the_table_is_not_gone_and_resume_is_needed():
    rig = Rig(workspace=Workspace(table_height=0.0))
    below = np.array([0.1, 2.6, -0.6, 0.2, 0.3, -0.1, 0.02])
    rig.track(below)
    for _ in range(300):
        rig.offer(below)
        tick = rig.tick()
        if tick.needs_resume:
            break
    assert (tick.state, tick.interventions[-1]) == (ArmState.HOLDING, "workspace")
    assert tick.reason.endswith("would come too near the table")
    held = rig.rest().command
    assert rig.controller.request_resume(rig.now) is None
    rig.run(0.3, chunk=below)  # again and again it tries, and comes no nearer
    assert_array_equal(np.round(rig.rest().command, 2), np.round(held, 2))
    rig.run(0.2, chunk=START)
    assert rig.controller.request_resume(rig.now) is None
    assert rig.run(0.5, chunk=START).state is ArmState.TRACKING
    times, commands = sent(rig)
    assert np.all(excess(times, commands, PIPER_LIMITS) <= 1e-6)


def test_history_tells_what_happened_when_and_why():
    rig = Rig()
    rig.track(START)
    rig.controller.request_hold(rig.now, "someone walked in")
    told = [(change.end, change.reason) for change in rig.controller.history]
    assert told == [
        (ArmState.ENABLING, "enable requested"),
        (ArmState.HOLDING, "enabled"),
        (ArmState.HOLDING, "resumed, waiting for a chunk"),
        (ArmState.TRACKING, "following chunks"),
        (ArmState.HOLDING, "someone walked in"),
    ]
    assert rig.controller.history[-1].time == rig.now


def test_an_arm_pushed_a_little_while_nothing_was_heard_keeps_its_command_and_its_grip():
    rig = Rig()
    rig.track(START)
    for _ in range(20):
        rig.tick(None)
    rig.positions = START + 0.05
    tick = rig.tick()
    assert_array_equal(tick.command, START)
