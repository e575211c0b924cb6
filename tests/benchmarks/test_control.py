"""What the figures of the control loop mean, on legs that are known."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks import control
from benchmarks.control_periods import Leg
from benchmarks.control_tick import tick_cost


def test_a_ratio_is_taken_within_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    worse = iter([1.0, 2.0, 4.0] * 4)  # the machine, round by round

    def leg(kind: str, bus: str, rate: float, seconds: float) -> Leg:
        errors = np.arange(1, 101) * 1e-5
        if kind == "bare":
            leg.machine = next(worse)
        return Leg(errors * leg.machine * (1.0 if kind == "bare" else 1.25), fifo=True, tracking=1.0)

    @contextmanager
    def nothing():
        yield "bus"

    monkeypatch.setattr(control, "run_leg", leg)
    monkeypatch.setattr(control, "simulated_arm", nothing)
    monkeypatch.setattr(control, "inference_load", nothing)
    rows = control.periods(rounds=3, seconds=1.0)
    assert [(row.loop, row.rate, row.load) for row in rows][:3] == [
        ("bare", 50.0, False),
        ("control", 50.0, False),
        ("bare", 200.0, False),
    ]
    assert len(rows) == 8
    for row in rows:
        assert row.ratio is None if row.loop == "bare" else row.ratio == pytest.approx((1.25, 1.25, 1.25))
    assert rows[0].max == pytest.approx(4.0)


def test_every_period_that_is_counted_followed_a_chunk() -> None:
    cost = tick_cost(60)
    assert len(cost.deciding) == len(cost.sending) > 30
    assert np.all(cost.deciding > 0)
    np.testing.assert_allclose(cost.both, cost.deciding + cost.sending)
