"""One moment of a demonstration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_runtime.policy.observation import Observation


@dataclass(frozen=True)
class Moment:
    """observation, the task in words, and what the expert would do next: (16, 7), joints [rad], gripper [m]."""

    observation: Observation
    instruction: str
    expert: NDArray[np.float64]
