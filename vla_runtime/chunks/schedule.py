"""The actions of one chunk on the shared clock."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.cubic import cubic_slopes
from vla_runtime.chunks.hermite import hermite, hermite_rate
from vla_runtime.chunks.linear import linear_slopes
from vla_runtime.chunks.path import Terms

INTERPOLATIONS = {"linear": linear_slopes, "cubic": cubic_slopes}

_FARTHEST = 1e9  # [rad], [m]: as far outside of every limit as any larger number, and sums of such never overflow


class Schedule:
    """A chunk of two actions or more as a path that meets each of them at its time, to the last bit.

    stamp: of the observation the chunk answers, in [s]. begins, ends: when its first and last actions are due, in [s].

    Outside of that time the chunk promises nothing. The path goes on straight, for those who must leave it smoothly.
    """

    def __init__(self, chunk: ActionChunk, interpolation: str = "cubic") -> None:
        """interpolation: one of `INTERPOLATIONS`."""
        self.stamp = chunk.stamp
        due = chunk.stamp + chunk.times
        positions = np.clip(chunk.positions, -_FARTHEST, _FARTHEST)
        slopes = INTERPOLATIONS[interpolation](due, positions)
        self._due: list[float] = due.tolist()
        self._durations: list[float] = np.diff(due).tolist()
        self._segments = list(np.stack((positions[:-1], slopes[:, 0], positions[1:], slopes[:, 1]), axis=1))
        self.begins: float = self._due[0]
        self.ends: float = self._due[-1]

    def position_terms(self, now: float) -> Terms:
        if now >= self.ends:
            return (0.0, 0.0, 1.0, now - self.ends), self._segments[-1]
        if now < self.begins:
            return (1.0, now - self.begins, 0.0, 0.0), self._segments[0]
        segment = bisect_right(self._due, now) - 1
        duration = self._durations[segment]
        return hermite((now - self._due[segment]) / duration, duration), self._segments[segment]

    def velocity_terms(self, now: float) -> Terms:
        """Just after ``now``, where linear interpolation has a step."""
        if now >= self.ends:
            return (0.0, 0.0, 0.0, 1.0), self._segments[-1]
        if now < self.begins:
            return (0.0, 1.0, 0.0, 0.0), self._segments[0]
        segment = bisect_right(self._due, now) - 1
        duration = self._durations[segment]
        return hermite_rate((now - self._due[segment]) / duration, duration), self._segments[segment]

    def position(self, now: float) -> NDArray[np.float64]:
        """At ``now`` [s]: six joints in [rad], gripper in [m]. Shape (7,)."""
        weights, points = self.position_terms(now)
        position: NDArray[np.float64] = np.array(weights) @ points
        return position

    def velocity(self, now: float) -> NDArray[np.float64]:
        """At ``now`` [s], in [rad/s] and [m/s]. Shape (7,)."""
        weights, points = self.velocity_terms(now)
        velocity: NDArray[np.float64] = np.array(weights) @ points
        return velocity
