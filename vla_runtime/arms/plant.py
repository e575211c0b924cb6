"""What a simulated arm's motors drive: a body with six joints and a gripper."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Plant(Protocol):
    """A body that follows targets. Six joints in [rad] and [rad/s], then the gripper in [m] and [m/s]. Shape (7,)."""

    @property
    def positions(self) -> NDArray[np.float64]: ...

    @property
    def velocities(self) -> NDArray[np.float64]: ...

    def apply(self, targets: NDArray[np.float64], dt: float) -> None:
        """Let ``dt`` [s] pass while the motors follow ``targets``. Shape (7,)."""
        ...


class KinematicPlant:
    """A body without mass: it reaches its targets exactly, as fast as its speed limits allow."""

    def __init__(self, positions: ArrayLike, max_speed: float = np.inf) -> None:
        """``positions``: where it starts, in [rad] and [m]. Shape (7,). ``max_speed``: in [rad/s] and [m/s]."""
        self._positions = np.array(positions, dtype=np.float64)
        self._velocities = np.zeros(7)
        self._max_speed = max_speed

    @property
    def positions(self) -> NDArray[np.float64]:
        return self._positions.copy()

    @property
    def velocities(self) -> NDArray[np.float64]:
        return self._velocities.copy()

    def apply(self, targets: NDArray[np.float64], dt: float) -> None:
        if dt <= 0:
            return
        reach = self._max_speed * dt
        moved = np.where(
            np.abs(targets - self._positions) <= reach,
            targets,  # taken as it is: adding the difference back would not be exact
            self._positions + np.clip(targets - self._positions, -reach, reach),
        )
        self._velocities = (moved - self._positions) / dt
        self._positions = moved
