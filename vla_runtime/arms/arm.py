"""What every arm can do, whatever bus or driver is behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

JOINT_NAMES = ("joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper")


@dataclass(frozen=True)
class ArmFeedback:
    """What the arm last said about itself.

    stamp: when its newest joint frame arrived, in [s]; how old it is tells whether the arm is alive.
    positions, velocities: six joints in [rad] and [rad/s], the gripper in [m] and [m/s]. Shape (7,).
    enabled: every joint motor is powered.
    faults: what the motors and the controller report, in words; empty when all is well.
    firmware: the controller's version, such as ``S-V1.8-2``, on which its kinematics depend; None where nobody tells.
    """

    stamp: float
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    enabled: bool
    faults: tuple[str, ...] = ()
    firmware: str | None = None


class Arm(Protocol):
    """One arm. Every method but ``feedback`` must be called from one and the same thread, the only one that sends."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know about this arm or its driver, in words; complete once it is connected."""
        ...

    def connect(self) -> None:
        """Open the bus and wait for the first feedback; raises `WorkFailed` when none comes."""
        ...

    def feedback(self) -> ArmFeedback | None:
        """The newest feedback, or None before the first complete one. Callable from any thread."""
        ...

    def enable(self) -> None:
        """Ask for motor power, holding the measured position. Returns at once; ``feedback().enabled`` tells when."""
        ...

    def command(self, positions: NDArray[np.float64]) -> None:
        """Send one target: six joints in [rad], gripper in [m]. Shape (7,). Already limited by the caller."""
        ...

    def disable(self) -> None:
        """Cut motor power. THE ARM DROPS: only ever on the user's explicit word."""
        ...

    def close(self) -> None:
        """Leave the bus. Sends nothing: the arm keeps holding its last target."""
        ...
