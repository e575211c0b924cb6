"""The gripper's speed, which no PiPER interface reports."""

from __future__ import annotations

_OVER = 0.02  # [s]; over less, the speed would be the noise of arrival times


class GripperSpeed:
    """The difference of openings over the difference of their times."""

    def __init__(self) -> None:
        self._mark: tuple[float, float] | None = None
        self._speed = 0.0

    def update(self, time: float, opening: float) -> float:
        """The speed in [m/s] after the gripper was ``opening`` [m] wide at ``time`` [s]."""
        if self._mark is None:
            self._mark = time, opening
        elapsed = time - self._mark[0]
        if elapsed >= _OVER:
            self._speed = (opening - self._mark[1]) / elapsed
            self._mark = time, opening
        return self._speed
