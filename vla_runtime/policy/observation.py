"""What the robot perceives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class Observation:
    """What the robot perceives at one moment.

    images: by camera name; RGB, uint8. Shapes (h, w, 3), any size.
    state: one number per dimension of the manifest's state space, in SI units whatever the policy speaks: angles in
    [rad], lengths in [m]. Shape (n_state,).
    """

    images: Mapping[str, NDArray[Any]]
    state: NDArray[Any]
