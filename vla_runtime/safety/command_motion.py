"""How the command moves: all the limiter remembers from one period to the next."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.braking import Braking, braking
from vla_runtime.safety.limits import ArmLimits

_HALVINGS = 40


class AxisMotion(NamedTuple):
    """One axis of the command, in [rad] or [m] and [s].

    position, velocity, acceleration: of the command now; they make the braking path from here.
    mean_velocity, mean_acceleration: of the newest commands, as differences (`vla_runtime.safety.differences`).
    lowest, highest: how far the braking path reaches.
    target, target_velocity: what was asked last, and the difference to what was asked before; None where nothing was.
    """

    position: float
    velocity: float = 0.0
    acceleration: float = 0.0
    mean_velocity: float = 0.0
    mean_acceleration: float = 0.0
    lowest: float = 0.0
    highest: float = 0.0
    target: float | None = None
    target_velocity: float | None = None


class CommandMotion(NamedTuple):
    """The command of every axis. Length 7.

    intervals: the two newest times between commands, the newest first, in [s]; 0 before the first ones.
    """

    axes: tuple[AxisMotion, ...]
    intervals: tuple[float, float] = (0.0, 0.0)

    @property
    def positions(self) -> NDArray[np.float64]:
        """The command, joints in [rad], gripper in [m]. Shape (7,)."""
        return np.array([axis.position for axis in self.axes])

    @property
    def at_rest(self) -> bool:
        """Nothing moves any more."""
        return all(axis.velocity == 0.0 and axis.acceleration == 0.0 for axis in self.axes)


def starting(positions: NDArray[np.float64], velocities: NDArray[np.float64], limits: ArmLimits) -> CommandMotion:
    """A command that begins where the arm is measured, at the speed it moves with, as far as that is within limits.

    An arm that moves too fast to stop within its position limits begins with the most from which it can; one that is
    outside and moves further out, with none.

    positions, velocities: [rad], [m] and [rad/s], [m/s]. Shape (7,). A velocity that is not finite counts as none.
    """
    speeds = np.clip(np.nan_to_num(velocities, nan=0.0), -limits.velocity, limits.velocity)
    axes = []
    for i, (position, measured) in enumerate(zip(positions.tolist(), speeds.tolist(), strict=True)):
        bounds = float(limits.acceleration[i]), float(limits.jerk[i])
        room = float(limits.upper[i]) - position if measured > 0 else position - float(limits.lower[i])
        speed = _that_stops_within(room, measured, *bounds)
        low, high = brake(speed, 0.0, *bounds).span
        axes.append(AxisMotion(position, speed, 0.0, speed, 0.0, position + low, position + high))
    return CommandMotion(tuple(axes))


def _that_stops_within(room: float, velocity: float, limit: float, jerk: float) -> float:
    """``velocity``, or the most in its direction from which braking goes no further than ``room``."""
    if room <= 0:
        return 0.0
    slow, fast = 0.0, velocity
    if abs(brake(fast, 0.0, limit, jerk).stop) <= room:
        return fast
    for _ in range(_HALVINGS):
        middle = (slow + fast) / 2
        slow, fast = (middle, fast) if abs(brake(middle, 0.0, limit, jerk).stop) <= room else (slow, middle)
    return slow


def brake(velocity: float, acceleration: float, limit: float, jerk: float) -> Braking:
    """The way to rest with one limit of acceleration in both directions."""
    return braking(velocity, acceleration, (limit, limit), jerk)


class BrakingWay:
    """Where the arm goes from a command on if every axis brakes."""

    def __init__(self, motion: CommandMotion, limits: ArmLimits) -> None:
        self._axes = motion.axes
        self._limits = limits

    @property
    def reaches(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the greatest position of each axis on the way. Shape (7,) each."""
        return np.array([axis.lowest for axis in self._axes]), np.array([axis.highest for axis in self._axes])

    @property
    def end(self) -> NDArray[np.float64]:
        """Where it ends. Shape (7,)."""
        return np.array([axis.position + path.stop for axis, path in self._paths()])

    def postures(self, count: int) -> NDArray[np.float64]:
        """``count`` positions, evenly in time, from the command to rest. Shape (count, 7)."""
        paths = self._paths()
        times = np.linspace(0.0, max(path.duration for _, path in paths), count).tolist()
        return np.array([[axis.position + path.at(t)[0] for axis, path in paths] for t in times])

    def _paths(self) -> list[tuple[AxisMotion, Braking]]:
        limits = zip(self._limits.acceleration.tolist(), self._limits.jerk.tolist(), strict=True)
        return [
            (axis, brake(axis.velocity, axis.acceleration, *limit))
            for axis, limit in zip(self._axes, limits, strict=True)
        ]
