"""The imagined arm beside a real one that counts what it is told."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import ArmFeedback
from vla_runtime_ros.dry_run import DryRunArm

REAL = np.array([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03])


class RealArm:
    """It can only be listened to: anything else is an AttributeError."""

    notes = ("firmware of old",)

    def __init__(self) -> None:
        self.measured: ArmFeedback | None = None
        self.events: list[str] = []

    def connect(self) -> None:
        self.events.append("connect")

    def feedback(self) -> ArmFeedback | None:
        return self.measured

    def close(self) -> None:
        self.events.append("close")


def measured(positions: NDArray[np.float64], **more: object) -> ArmFeedback:
    return ArmFeedback(12.0, positions, np.full(7, 0.1), **{"enabled": True, **more})  # type: ignore[arg-type]


def test_it_goes_where_it_is_told_from_where_the_real_one_is_and_tells_the_real_one_nothing() -> None:
    real = RealArm()
    arm = DryRunArm(real)
    arm.connect()
    assert arm.feedback() is None
    real.measured = measured(REAL)
    before = arm.feedback()
    assert before is not None
    assert not before.enabled
    arm.command(REAL + 0.5)  # without power it does not move
    arm.enable()
    after = arm.feedback()
    assert after is not None
    assert after.enabled
    np.testing.assert_array_equal(after.positions, REAL)
    arm.command(REAL + 0.1)
    real.measured = measured(REAL - 0.2, faults=("motor 2 is hot",))
    moved = arm.feedback()
    assert moved is not None
    np.testing.assert_array_equal(moved.positions, REAL + 0.1)
    assert (moved.stamp, moved.faults) == (12.0, ("motor 2 is hot",))
    arm.disable()
    off = arm.feedback()
    assert off is not None
    assert not off.enabled
    np.testing.assert_array_equal(off.positions, REAL - 0.2)
    arm.close()
    assert (real.events, arm.notes) == (["connect", "close"], ("firmware of old",))


def test_an_arm_that_says_nothing_has_no_power_to_imagine() -> None:
    arm = DryRunArm(RealArm())
    arm.enable()
    arm.command(REAL)
    assert arm.feedback() is None
