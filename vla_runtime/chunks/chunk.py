"""An action chunk: a promise about absolute times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import BadInput


@dataclass(frozen=True)
class ActionChunk:
    """What the policy wants, when.

    stamp: time of the observation the chunk answers, in [s] on the clock all nodes share.
    times: when each action is due, in [s] after ``stamp``, strictly increasing. Shape (H,).
    positions: six joint targets in [rad] and the gripper opening in [m]. Shape (H, 7).

    Raises `BadInput` where shapes disagree or times do not increase. Values may be anything, NaN included:
    judging them is the safety layer's work, not the container's.
    """

    stamp: float
    times: NDArray[np.float64]
    positions: NDArray[np.float64]

    def __post_init__(self) -> None:
        times, positions = self.times, self.positions
        if times.ndim != 1 or len(times) == 0 or positions.shape != (len(times), 7):
            raise BadInput(
                f"an action chunk needs times (H,) and positions (H, 7), got {times.shape}, {positions.shape}"
            )
        if not np.all(np.isfinite(times)) or np.any(np.diff(times) <= 0):
            raise BadInput("the times of an action chunk must be finite and strictly increasing")
