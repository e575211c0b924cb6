"""Straight lines between the actions of a chunk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def linear_slopes(times: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Velocities at the start and the end of every segment between two actions: its mean velocity.

    The velocity steps at the actions themselves; where one chunk takes over from another it does not.

    times: strictly increasing, in [s]. Shape (H,), H ≥ 2. positions: shape (H, 7). Returns shape (H - 1, 2, 7).
    """
    means = np.diff(positions, axis=0) / np.diff(times)[:, None]
    return np.stack((means, means), axis=1)
