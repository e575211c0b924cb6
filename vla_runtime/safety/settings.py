"""Every time and tolerance of the arm's control, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import seven


@dataclass(frozen=True, eq=False)
class ControlSettings:
    """How the arm is controlled.

    period: time between two ticks, in [s]. One command never uses more than two periods of the velocity limit.
    chunk_timeout: age of the newest chunk's observation beyond which the arm holds, in [s].
    feedback_timeout: age of the arm's feedback beyond which nothing more is sent, in [s].
    enable_timeout: how long motor power may take to come, in [s].
    max_future: how far ahead of the clock a stamp may lie, in [s].
    max_gap: the longest time between two ticks that is not a jump of the clock, in [s].
    divergence: how far a joint may be from its command, in [rad]. The gripper is exempt: closed on an object it never
        reaches its command.
    arrival_tolerance: how near every joint must be to have arrived, in [rad].
    park_positions: where the arm may lose power without falling, joints in [rad], gripper in [m]. Shape (7,).
    park_speed: speed on the way there as a fraction of the velocity limits.

    Raises `BadInput` naming the setting.
    """

    period: float = 0.01
    chunk_timeout: float = 0.5
    feedback_timeout: float = 0.1
    enable_timeout: float = 5.0
    max_future: float = 0.05
    max_gap: float = 0.5
    divergence: float = 0.3
    arrival_tolerance: float = 0.05
    park_positions: NDArray[np.float64] = field(default_factory=lambda: np.zeros(7))
    park_speed: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "park_positions", seven("park_positions", self.park_positions))
        for name in (f.name for f in fields(self) if f.name != "park_positions"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise BadInput(f"{name} must be a finite number above 0, got {value}")
        if self.park_speed > 1:
            raise BadInput(f"park_speed is a fraction of the velocity limits, at most 1, got {self.park_speed}")
        if self.arrival_tolerance >= self.divergence:
            raise BadInput(
                f"arrival_tolerance ({self.arrival_tolerance} rad) must be below divergence ({self.divergence} rad)"
            )
        if self.max_gap <= 2 * self.period:
            raise BadInput(f"max_gap ({self.max_gap} s) must be above two periods ({2 * self.period} s)")
