"""Every time and tolerance of the arm's control, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.executor import ChunkExecutor
from vla_runtime.chunks.takeover import takeover
from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import seven

_NUMBERS = (
    "period",
    "chunk_timeout",
    "feedback_timeout",
    "enable_timeout",
    "enable_interval",
    "max_future",
    "max_gap",
    "overrun_timeout",
    "divergence",
    "arrival_tolerance",
    "park_speed",
)


@dataclass(frozen=True, eq=False)
class ControlSettings:
    """How the arm is controlled.

    period: time between two ticks, in [s].
    chunk_timeout: age of the newest chunk's observation beyond which the arm holds, in [s].
    feedback_timeout: age of the arm's feedback beyond which the arm brakes and nothing more is sent, in [s].
    watchdogs: whatever else must keep coming for the arm to move, such as the policy's heartbeat and each camera: its
        name, and the age beyond which the arm holds, in [s]. `ArmController.heard` feeds them.
    enable_timeout: how long motor power may take to come, in [s].
    enable_interval: the least time from one request for motor power to the next, in [s].
    max_future: how far ahead of the clock a stamp may lie, in [s].
    max_gap: the longest time between two ticks that is not a jump of the clock, in [s].
    overrun_timeout: how late a tick may come before the arm holds, in [s].
    divergence: how far a joint may be from its command, in [rad]. The gripper is exempt: closed on an object it never
        reaches its command.
    arrival_tolerance: how near every joint must be to have arrived, in [rad].
    park_positions: where the arm may lose power without falling, joints in [rad], gripper in [m]. Shape (7,).
    park_speed: speed on the way there as a fraction of the velocity limits.
    chunk_takeover, takeover_window, ensemble_decay: how a newer chunk takes over, see `vla_runtime.chunks.takeover`.
    interpolation: what is between two actions of a chunk, "cubic" or "linear".

    Raises `BadInput` naming the setting.
    """

    period: float = 0.01
    chunk_timeout: float = 0.5
    feedback_timeout: float = 0.1
    watchdogs: Mapping[str, float] = field(default_factory=dict)
    enable_timeout: float = 5.0
    enable_interval: float = 1.0
    max_future: float = 0.05
    max_gap: float = 0.5
    overrun_timeout: float = 0.1
    divergence: float = 0.3
    arrival_tolerance: float = 0.05
    park_positions: NDArray[np.float64] = field(default_factory=lambda: np.zeros(7))
    park_speed: float = 0.5
    chunk_takeover: str = "blend"
    takeover_window: float = 0.15
    ensemble_decay: float = 0.01
    interpolation: str = "cubic"

    def __post_init__(self) -> None:
        object.__setattr__(self, "park_positions", seven("park_positions", self.park_positions))
        object.__setattr__(self, "watchdogs", MappingProxyType(dict(self.watchdogs)))
        given = {name: getattr(self, name) for name in _NUMBERS}
        for name, value in (*given.items(), *((f"watchdogs of {name}", t) for name, t in self.watchdogs.items())):
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
        self.new_executor()  # it says what is wrong with the settings that are its own

    def new_executor(self) -> ChunkExecutor:
        """An executor of chunks as these settings want it."""
        strategy = takeover(self.chunk_takeover, window=self.takeover_window, decay=self.ensemble_decay)
        return ChunkExecutor(self.chunk_timeout, self.max_future, strategy, self.interpolation)
