"""What is asked of the arm through time, by chunk after chunk."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.schedule import Schedule


class Motion(Protocol):
    """One continuous motion. Its velocity is continuous wherever a chunk takes over. Immutable."""

    @property
    def ends(self) -> float:
        """When nothing more is asked, in [s]."""
        ...

    def position(self, now: float) -> NDArray[np.float64]:
        """What is asked at ``now`` [s]: six joints in [rad], gripper in [m]. Shape (7,)."""
        ...

    def velocity(self, now: float) -> NDArray[np.float64]:
        """How fast that changes at ``now`` [s], in [rad/s] and [m/s]. Shape (7,)."""
        ...

    def then(self, schedule: Schedule, now: float) -> Motion:
        """The same motion until ``now`` [s], of which nothing is kept, and from then on with a newer chunk."""
        ...
