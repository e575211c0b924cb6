from __future__ import annotations

import numpy as np
import pytest

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.safety.power import PowerRequest, PowerStep


def feedback(enabled=False, faults=()):
    return ArmFeedback(0.0, np.zeros(7), np.zeros(7), enabled, faults)


@pytest.fixture
def request_():
    made = PowerRequest(timeout=5.0, interval=1.0)
    made.begin()
    return made


def test_it_asks_once_then_waits_until_power_is_there(request_):
    assert request_.advance(feedback(), None) is PowerStep.ASK
    assert request_.advance(feedback(), None) is PowerStep.WAIT
    assert request_.advance(feedback(enabled=True), None) is PowerStep.THERE


def test_an_arm_that_has_power_is_asked_all_the_same(request_):
    assert request_.advance(feedback(enabled=True), None) is PowerStep.ASK
    assert request_.advance(feedback(enabled=True), None) is PowerStep.THERE


def test_it_does_not_ask_on_what_cannot_be_relied_on(request_):
    assert request_.advance(None, "no arm feedback yet") is PowerStep.WAIT
    assert request_.advance(feedback(), "arm feedback is old") is PowerStep.WAIT
    assert request_.too_soon is None


def test_it_fails_for_a_fault_and_for_want_of_time(request_):
    assert request_.advance(feedback(faults=("joint1 collision",)), None) == "the arm reports joint1 collision"
    request_.pass_time(5.01)
    assert request_.advance(None, "no arm feedback yet") == "no arm feedback yet"
    assert request_.advance(feedback(), None) is PowerStep.ASK  # still worth a try
    assert request_.advance(feedback(), None) == "no motor power within 5.000 s"


def test_the_interval_counts_from_what_reached_the_arm(request_):
    request_.advance(feedback(), None)
    request_.pass_time(0.4)
    assert request_.too_soon == "the arm was asked for power 0.400 s ago, at most once in 1.000 s"
    request_.pass_time(0.6)
    assert request_.too_soon is None
    request_.begin()
    assert request_.advance(feedback(), None) is PowerStep.ASK
