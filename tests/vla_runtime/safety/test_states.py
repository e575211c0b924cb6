from __future__ import annotations

import itertools

import pytest

from vla_runtime.safety.states import TRANSITIONS, ArmState, StateMachine


def holding():
    machine = StateMachine()
    machine.enter(ArmState.ENABLING, "enable requested")
    machine.enter(ArmState.HOLDING, "enabled")
    return machine


def tracking():
    machine = holding()
    machine.arm("resumed")
    machine.track("following chunks")
    return machine


@pytest.mark.parametrize(("start", "end"), list(itertools.product(ArmState, ArmState)))
def test_only_the_tables_transitions_are_possible(start, end):
    machine = StateMachine()
    machine.state = start
    if end in TRANSITIONS[start]:
        machine.enter(end, "why")
        assert (machine.state, machine.reason) == (end, "why")
    else:
        with pytest.raises(ValueError, match=f"cannot go to {end.value}"):
            machine.enter(end, "why")
        assert machine.state is start


def test_power_can_be_cut_from_every_state_and_nothing_moves_without_enabling():
    assert all(ArmState.DISABLED in TRANSITIONS[state] for state in ArmState)
    assert TRANSITIONS[ArmState.DISABLED] == {ArmState.ENABLING, ArmState.DISABLED}


def test_a_pause_stays_armed_and_a_stop_does_not():
    paused, stopped = tracking(), tracking()
    paused.pause("stale")
    assert (paused.state, paused.armed) == (ArmState.HOLDING, True)
    assert stopped.stop("fault")
    assert (stopped.state, stopped.armed) == (ArmState.HOLDING, False)
    with pytest.raises(ValueError, match="not armed"):
        stopped.track("following chunks")


def test_within_a_stop_the_first_reason_stays():
    machine = tracking()
    assert machine.stop("first")
    assert not machine.stop("second")
    assert not machine.give_way("third")
    machine.settle()
    assert (machine.state, machine.reason) == (ArmState.HOLDING, "first")


def test_a_stop_overrides_a_pauses_reason():
    machine = tracking()
    machine.pause("stale")
    assert machine.stop("fault")
    assert machine.reason == "fault"


def test_after_the_users_word_a_new_stop_has_a_new_reason():
    machine = tracking()
    machine.stop("first")
    machine.arm("resumed")
    assert machine.reason == "resumed"
    machine.stop("second")
    assert machine.reason == "second"


def test_parking_disarms():
    machine = tracking()
    machine.enter(ArmState.PARKING, "park requested")
    assert not machine.armed


@pytest.mark.parametrize("state", [ArmState.DISABLED, ArmState.ENABLING])
def test_an_arm_without_power_has_nothing_to_stop(state):
    machine = StateMachine()
    machine.state = state
    assert not machine.stop("why")
    assert machine.state is state


@pytest.mark.parametrize("state", [s for s in ArmState if s is not ArmState.HOLDING])
def test_only_a_holding_arm_can_be_armed(state):
    machine = StateMachine()
    machine.state = state
    with pytest.raises(ValueError, match="only a holding arm"):
        machine.arm("resumed")
