from __future__ import annotations

import numpy as np
import pytest

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime.safety.soundness import Soundness

JUDGE = Soundness(timeout=0.1, max_future=0.05)


def feedback(stamp=10.0, positions=None, velocities=None, enabled=True, faults=()):
    positions = np.zeros(7) if positions is None else positions
    velocities = np.zeros(7) if velocities is None else velocities
    return ArmFeedback(stamp, positions, velocities, enabled, faults)


def test_fresh_plausible_feedback_of_a_powered_arm_is_sound_and_fit():
    assert JUDGE.unsound(feedback(), 10.05) is None
    assert JUDGE.unfit(feedback(), 10.05) is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "no arm feedback yet"),
        (feedback(stamp=9.8), "arm feedback is 0.200 s old, limit 0.100 s"),
        (feedback(stamp=10.1), "arm feedback is stamped 0.100 s in the future, limit 0.050 s"),
        (feedback(positions=np.full(7, np.nan)), "arm feedback is no possible posture"),
        (feedback(positions=np.full(7, 7.0)), "arm feedback is no possible posture"),
        (feedback(positions=np.zeros(6)), "arm feedback is no possible posture"),
        (feedback(velocities=np.full(7, -np.inf)), "arm feedback is no possible motion"),
        (feedback(velocities=np.zeros(6)), "arm feedback is no possible motion"),
    ],
)
def test_what_cannot_be_relied_on_is_neither(given, why):
    assert JUDGE.unsound(given, 10.0) == why
    assert JUDGE.unfit(given, 10.0) == why


def test_an_arm_without_power_or_with_a_fault_is_sound_but_not_fit():
    off, broken = feedback(enabled=False), feedback(faults=("joint1 collision", "joint2 stalled"))
    assert JUDGE.unsound(off, 10.0) is JUDGE.unsound(broken, 10.0) is None
    assert JUDGE.unfit(off, 10.0) == "the arm reports its motors off"
    assert JUDGE.unfit(broken, 10.0) == "the arm reports joint1 collision, joint2 stalled"
