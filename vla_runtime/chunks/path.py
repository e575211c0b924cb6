"""A curve through time, as a weighted sum of few points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Terms = tuple[tuple[float, ...], NDArray[np.float64]]
"""k weights, and what they weight: positions in [rad] and [m], velocities in [rad/s] and [m/s]. Shape (k, 7)."""


class Path(Protocol):
    """Where to be at any time. ``now`` is in [s] on the shared clock."""

    def position_terms(self, now: float) -> Terms:
        """What the position at ``now`` is the weighted sum of."""
        ...

    def velocity_terms(self, now: float) -> Terms:
        """What the velocity at ``now`` is the weighted sum of."""
        ...


@dataclass(frozen=True, eq=False)
class Straight:
    """On from a position at a constant velocity.

    begins: when, in [s]. state: position in [rad] and [m] and velocity in [rad/s] and [m/s]. Shape (2, 7).
    """

    begins: float
    state: NDArray[np.float64]

    def position_terms(self, now: float) -> Terms:
        return (1.0, now - self.begins), self.state

    def velocity_terms(self, now: float) -> Terms:
        return (0.0, 1.0), self.state


def mean_position(weights: Sequence[float], paths: Sequence[Path], now: float) -> NDArray[np.float64]:
    """The weighted sum of paths at ``now`` [s]. Shape (7,)."""
    return _sum([(weight, path.position_terms(now)) for weight, path in zip(weights, paths, strict=True) if weight])


def mean_velocity(
    weights: Sequence[float], rates: Sequence[float], paths: Sequence[Path], now: float
) -> NDArray[np.float64]:
    """The velocity of a weighted sum whose weights change at ``rates`` [1/s]. Shape (7,)."""
    moving = [(weight, path.velocity_terms(now)) for weight, path in zip(weights, paths, strict=True)]
    fading = [(rate, path.position_terms(now)) for rate, path in zip(rates, paths, strict=True)]
    return _sum(moving + fading)


def _sum(parts: Sequence[tuple[float, Terms]]) -> NDArray[np.float64]:
    # One product for all: this runs in every control period.
    weights = [weight * term for weight, (terms, _) in parts for term in terms]
    position: NDArray[np.float64] = np.array(weights) @ np.concatenate([points for _, (_, points) in parts])
    return position
