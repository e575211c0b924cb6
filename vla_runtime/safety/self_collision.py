"""How far the arm's links are from each other."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.arm_geometry import ArmGeometry
from vla_runtime.safety.capsules import Capsule, capsules_of, segment_distances
from vla_runtime.safety.interventions import SELF_COLLISION

Array = NDArray[np.float64]

FOLDED = np.zeros(7)
"""The posture in which the arm rests on itself, in [rad] and [m]."""

# The shoulder turns in link1's bracket on the base, and joint2's range keeps base and upper arm apart; the fingers
# meet by design.
_NEIGHBOURS = frozenset({("base", "link2"), ("finger_left", "finger_right")})


class SelfCollision:
    """Room between the links that do not share a joint, as capsules around their shapes.

    Two capsules need ``margin`` [m] between them, or what they have in the `FOLDED` posture where that is less: the
    forearm comes to rest on the upper arm.

    needed: how much room each pair needs, in [m], negative where they may overlap. Shape (pairs,).
    reach: how far a pair comes nearer at most for each unit a coordinate changes. Shape (pairs, 7).
    """

    kind = SELF_COLLISION

    def __init__(self, geometry: ArmGeometry, margin: float) -> None:
        capsules = capsules_of(geometry)
        pairs = [
            (i, k)
            for i, k in combinations(range(len(capsules)), 2)
            if not _are_neighbours(geometry, capsules[i].body, capsules[k].body)
        ]
        self._bodies = np.array([capsule.body for capsule in capsules])
        self._ends = np.array([np.column_stack([capsule.ends, np.ones(2)]) for capsule in capsules])
        self._first, self._second = (np.array(side) for side in zip(*pairs, strict=True))
        radii = np.array([capsule.radius for capsule in capsules])
        self._radii = radii[self._first] + radii[self._second]
        self._names = [geometry.names[capsule.body] for capsule in capsules]
        self.needed = np.zeros(len(pairs))
        folded = self.room(geometry.frames(FOLDED[None]), np.arange(len(pairs)))[0]
        self.needed = np.minimum(margin, folded - 1e-9)
        self.reach = np.array([_reach(geometry, capsules[i], capsules[k]) for i, k in pairs])

    def room(self, frames: Array, which: NDArray[np.intp]) -> Array:
        """The distance of the capsules of these pairs beyond what they need, in [m]. Shape (n, pairs asked)."""
        ends = np.einsum("ncij,cej->ncei", frames[:, self._bodies, :3], self._ends)
        a, b = ends[:, self._first[which]], ends[:, self._second[which]]
        distances = segment_distances(a[..., 0, :], a[..., 1, :], b[..., 0, :], b[..., 1, :])
        room: Array = distances - self._radii[which] - self.needed[which]
        return room

    def links(self, index: int) -> tuple[str, str]:
        """The two links a pair belongs to."""
        return self._names[self._first[index]], self._names[self._second[index]]

    def words(self, index: int) -> str:
        """What it is that must not happen to a pair."""
        first, second = self.links(index)
        return f"{first} and {second} would come too near each other"


def _reach(geometry: ArmGeometry, first: Capsule, second: Capsule) -> Array:
    """How far the capsules come nearer at most for each unit of a coordinate. Shape (7,)."""
    distance = float(np.linalg.norm(second.ends, axis=1).max())
    return geometry.reach(second.body, distance, fixed=first.body)


def _are_neighbours(geometry: ArmGeometry, first: int, second: int) -> bool:
    related = first == second or first == geometry.parents[second] or second == geometry.parents[first]
    return related or (geometry.names[first], geometry.names[second]) in _NEIGHBOURS
