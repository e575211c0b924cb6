from __future__ import annotations

import itertools

import pytest

from vla_runtime.safety.states import TRANSITIONS, ArmState, StateMachine

NOW = 1000.0


def holding():
    machine = StateMachine()
    machine.enter(ArmState.ENABLING, "enable requested", NOW)
    machine.enter(ArmState.HOLDING, "enabled", NOW)
    return machine


def tracking():
    machine = holding()
    machine.arm("resumed", NOW)
    machine.track("following chunks", NOW)
    return machine


@pytest.mark.parametrize(("start", "end"), list(itertools.product(ArmState, ArmState)))
def test_only_the_tables_transitions_are_possible(start, end):
    machine = StateMachine()
    machine.state = start
    if end in TRANSITIONS[start]:
        machine.enter(end, "why", NOW)
        assert (machine.state, machine.reason) == (end, "why")
    else:
        with pytest.raises(ValueError, match=f"cannot go to {end.value}"):
            machine.enter(end, "why", NOW)
        assert machine.state is start


def test_power_can_be_cut_from_every_state_and_nothing_moves_without_enabling():
    assert all(ArmState.DISABLED in TRANSITIONS[state] for state in ArmState)
    assert TRANSITIONS[ArmState.DISABLED] == {ArmState.ENABLING, ArmState.DISABLED}


def test_a_pause_stays_armed_and_a_stop_does_not():
    paused, stopped = tracking(), tracking()
    paused.pause("stale", NOW)
    assert (paused.state, paused.armed) == (ArmState.HOLDING, True)
    assert stopped.stop("fault", NOW)
    assert (stopped.state, stopped.armed) == (ArmState.HOLDING, False)
    with pytest.raises(ValueError, match="not armed"):
        stopped.track("following chunks", NOW)


def test_within_a_stop_the_first_reason_stays():
    machine = tracking()
    assert machine.stop("first", NOW)
    assert not machine.stop("second", NOW)
    assert not machine.give_way("third", NOW)
    machine.settle(NOW)
    assert (machine.state, machine.reason) == (ArmState.HOLDING, "first")


def test_a_stop_overrides_a_pauses_reason():
    machine = tracking()
    machine.pause("stale", NOW)
    assert machine.stop("fault", NOW)
    assert machine.reason == "fault"


def test_after_the_users_word_a_new_stop_has_a_new_reason():
    machine = tracking()
    machine.stop("first", NOW)
    machine.arm("resumed", NOW)
    assert machine.reason == "resumed"
    machine.stop("second", NOW)
    assert machine.reason == "second"


def test_parking_disarms():
    machine = tracking()
    machine.enter(ArmState.PARKING, "park requested", NOW)
    assert not machine.armed


@pytest.mark.parametrize("state", [ArmState.DISABLED, ArmState.ENABLING])
def test_an_arm_without_power_has_nothing_to_stop(state):
    machine = StateMachine()
    machine.state = state
    assert not machine.stop("why", NOW)
    assert machine.state is state


@pytest.mark.parametrize("state", [s for s in ArmState if s is not ArmState.HOLDING])
def test_only_a_holding_arm_can_be_armed(state):
    machine = StateMachine()
    machine.state = state
    with pytest.raises(ValueError, match="only a holding arm"):
        machine.arm("resumed", NOW)


def test_every_change_is_remembered_with_its_time_and_reason_the_oldest_first():
    machine = StateMachine()
    machine.enter(ArmState.ENABLING, "enable requested", 1.0)
    machine.enter(ArmState.HOLDING, "enabled", 2.0)
    machine.arm("resumed", 3.0)
    machine.track("following chunks", 4.0)
    machine.pause("stale", 5.0)
    machine.give_way("pushed", 6.0)
    machine.stop("not the first reason", 7.0)
    machine.settle(8.0)
    assert [tuple(change) for change in machine.history] == [
        (1.0, ArmState.DISABLED, ArmState.ENABLING, "enable requested"),
        (2.0, ArmState.ENABLING, ArmState.HOLDING, "enabled"),
        (3.0, ArmState.HOLDING, ArmState.HOLDING, "resumed"),
        (4.0, ArmState.HOLDING, ArmState.TRACKING, "following chunks"),
        (5.0, ArmState.TRACKING, ArmState.HOLDING, "stale"),
        (6.0, ArmState.HOLDING, ArmState.STOPPING, "pushed"),
        (8.0, ArmState.STOPPING, ArmState.HOLDING, "pushed"),
    ]


def test_a_stop_of_a_stopped_arm_that_moves_again_is_remembered_under_its_first_reason():
    machine = tracking()
    machine.stop("first", 5.0)
    machine.give_way("second", 6.0)
    assert tuple(machine.history[-1]) == (6.0, ArmState.HOLDING, ArmState.STOPPING, "first")


def test_memory_is_bounded():
    machine = tracking()
    for time in range(1000):
        machine.pause("stale", float(time))
        machine.track("following chunks", float(time))
    assert len(machine.history) == 200
    assert machine.history[-1].time == 999.0
