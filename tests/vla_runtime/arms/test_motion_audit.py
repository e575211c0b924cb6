"""What the audit says of a motion, against the motion's own derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.arms.motion_audit import MotionAudit

PERIOD = 0.01


def audit(period: float | None, times: list[float], positions: list[float]) -> MotionAudit:
    made = MotionAudit(period)
    made.rest(positions[0])
    for time, position in zip(times, positions, strict=True):
        made.target(time, position)
    return made


@given(st.floats(0.1, 3), st.lists(st.floats(0.2, 2), min_size=3, max_size=50))
def test_in_simulated_time_a_parabola_has_its_acceleration_at_any_intervals(
    acceleration: float, intervals: list[float]
) -> None:
    times = np.append(0, np.cumsum(intervals)) * PERIOD
    positions = acceleration / 2 * times**2
    found = audit(None, times.tolist(), positions.tolist())
    assert found.hardest == pytest.approx(acceleration, rel=1e-6)
    last = (positions[-1] - positions[-2]) / (times[-1] - times[-2])
    assert found.fastest == pytest.approx(last, rel=1e-6)


@given(st.lists(st.floats(-0.9, 3), min_size=3, max_size=50))
def test_on_a_real_clock_late_and_early_arrivals_make_no_motion_faster(jitter: list[float]) -> None:
    steady = [k * 0.01 for k in range(len(jitter) + 1)]
    arrivals = np.append(0, np.cumsum(1 + np.array(jitter))) * PERIOD
    found = audit(PERIOD, arrivals.tolist(), steady)
    assert found.fastest <= 1.0 + 1e-9
    assert found.hardest == pytest.approx(100.0)  # from rest to 1 in one period, and no change after


def test_a_burst_is_judged_as_it_was_meant() -> None:
    found = audit(PERIOD, [0.0, 0.03, 0.03, 0.03], [0.0, 0.01, 0.02, 0.03])
    assert found.fastest == pytest.approx(1.0)


@pytest.mark.parametrize("period", [None, PERIOD])
def test_a_leap_is_seen_after_any_pause(period: float | None) -> None:
    found = audit(period, [0.0, 0.01, 30.0], [0.0, 0.0, 0.5])
    assert found.fastest == pytest.approx(50.0)
    assert found.hardest == pytest.approx(5000.0)


def test_a_leap_in_the_first_target_is_seen_where_the_rest_before_is_known() -> None:
    motion = MotionAudit(PERIOD)
    motion.rest(0.2)
    motion.target(100.0, 0.3)
    assert motion.fastest == pytest.approx(10.0)


def test_a_pause_begins_from_rest_again() -> None:
    found = audit(PERIOD, [0.0, 0.01, 0.02, 5.0, 5.01], [0.0, 0.01, 0.02, 0.02, 0.02])
    assert found.hardest == pytest.approx(100.0)


def test_two_targets_at_one_instant_are_a_leap_unless_they_are_the_same() -> None:
    assert audit(None, [0.0, 0.01, 0.01], [0.0, 0.001, 0.001]).fastest == pytest.approx(0.1)
    assert audit(None, [0.0, 0.01, 0.01], [0.0, 0.001, 0.002]).fastest == np.inf
