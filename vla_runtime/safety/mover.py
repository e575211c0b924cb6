"""The command as it moves: within the limits of motion, and only where the arm may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.piper_kinematics import zero_angles
from vla_runtime.safety.arm_geometry import piper_geometry
from vla_runtime.safety.command_motion import BrakingWay, CommandMotion, starting
from vla_runtime.safety.guard import Guard, Violation
from vla_runtime.safety.limiter import Limiter
from vla_runtime.safety.limits import ArmLimits
from vla_runtime.safety.self_collision import SelfCollision
from vla_runtime.safety.workspace import Workspace, WorkspaceRoom

Array = NDArray[np.float64]

_GEOMETRY_OF = "S-V1.6-3"  # the firmware whose zeros the geometry has, and all since


class Mover:
    """Moves the command of one arm, period by period.

    Wherever it leads the command, braking from there ends within the position limits and the workspace, above the table
    and clear of the arm itself, as far as that was so where it started.

    park_speed: speed of a careful motion, as a fraction of the velocity limits.
    """

    def __init__(self, limits: ArmLimits, workspace: Workspace, park_speed: float) -> None:
        self._limits = limits
        self._workspace = workspace
        self._limiter = Limiter(limits)
        self._careful = Limiter(replace(limits, velocity=park_speed * limits.velocity))
        self._offsets = np.zeros(7)
        self._guard = _guard(workspace, self._offsets)
        self._motion: CommandMotion | None = None

    def know_firmware(self, firmware: str) -> None:
        """The arm's joints have the zeros of this firmware, such as ``S-V1.5-2``. Raises `BadInput` for no version."""
        offsets = np.append(np.subtract(zero_angles(firmware), zero_angles(_GEOMETRY_OF)), 0.0)
        if not np.array_equal(offsets, self._offsets):
            self._offsets, self._guard = offsets, _guard(self._workspace, offsets)

    @property
    def position(self) -> Array | None:
        """The command, joints in [rad], gripper in [m]; None while there is none. Shape (7,)."""
        return None if self._motion is None else self._motion.positions

    @property
    def at_rest(self) -> bool:
        """The command does not move."""
        return self._motion is None or self._motion.at_rest

    @property
    def end(self) -> Array | None:
        """Where the command comes to rest if it brakes from now on; None while there is none. Shape (7,)."""
        return None if self._motion is None else BrakingWay(self._motion, self._limits).end

    @property
    def _begun(self) -> CommandMotion:
        if self._motion is None:
            raise ValueError("there is no command to go on from: start first")
        return self._motion

    def start(self, positions: Array, velocities: Array) -> None:
        """Begin the command where the arm is, with the speed it has. [rad], [m] and [rad/s], [m/s]. Shape (7,)."""
        self._motion = starting(positions, velocities, self._limits)

    def forget(self) -> None:
        """There is no command any more."""
        self._motion = None

    def brake(self, dt: float) -> None:
        """Along the braking path for ``dt`` [s], and back from outside the position limits."""
        if self._motion is not None:
            self._motion, _ = self._limiter.step(self._motion, None, dt)

    def follow(self, desired: Array, dt: float, *, careful: bool = False) -> tuple[tuple[str, ...], Violation | None]:
        """Towards ``desired``, shape (7,), for ``dt`` [s]; the interventions that took, and why it braked instead.

        Raises ValueError where there is no command to go on from.
        """
        motion, kinds = (self._careful if careful else self._limiter).step(self._begun, desired, dt)
        after, before = BrakingWay(motion, self._limits), BrakingWay(self._begun, self._limits)
        violation = self._guard.violation(after, before)
        if violation is None:
            self._motion = motion
        else:
            self.brake(dt)
        return kinds, violation

    def give_way(self, desired: Array, dt: float) -> tuple[str, ...]:
        """Towards ``desired``, where the arm already is, wherever that is; the interventions that took. Shape (7,).

        Raises ValueError where there is no command to go on from.
        """
        motion, kinds = self._limiter.step(self._begun, desired, dt)
        self._motion = motion
        return kinds

    def forbidden_rest(self, posture: Array) -> Violation | None:
        """What is wrong with resting at ``posture``, shape (7,); None where nothing is."""
        return self._guard.resting_violation(posture)


def _guard(workspace: Workspace, offsets: Array) -> Guard:
    geometry = piper_geometry().zeroed_at(offsets)
    return Guard(geometry, (WorkspaceRoom(geometry, workspace), SelfCollision(geometry, workspace.margin)))
