"""No motion begins that could not stop before the workspace ends, the table or the arm itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.arm_geometry import ArmGeometry

Array = NDArray[np.float64]

_ROUNDING = 1e-9  # [m]
_SPACING = 0.02  # [m]
_LOOKS = 16


class Room(Protocol):
    """Several distances of the arm, each of which must not be used up."""

    kind: str
    reach: Array

    def room(self, frames: Array, which: NDArray[np.intp]) -> Array:
        """The distances asked for, in [m], for frames of shape (n, bodies, 4, 4). Shape (n, asked)."""
        ...

    def words(self, index: int) -> str:
        """What happens where a distance is used up."""
        ...


class Violation(NamedTuple):
    """A way that must not be gone: its kind of intervention, and why in words."""

    kind: str
    reason: str


class Way(Protocol):
    """Where the arm goes from one command on if it brakes."""

    @property
    def reaches(self) -> tuple[Array, Array]:
        """The least and the greatest position of each coordinate on it. Shape (7,) each."""
        ...

    def postures(self, count: int) -> Array:
        """``count`` positions along it, evenly in time, from the command to rest. Shape (count, 7)."""
        ...


@dataclass(eq=False)
class _Bubbles:
    """For each distance, a posture and the room it had there: free as far as that room lasts.

    (The bubbles of free space of Quinlan, *Real-Time Modification of Collision-Free Paths*, 1994.)
    """

    centres: Array
    rooms: Array

    @staticmethod
    def none(count: int) -> _Bubbles:
        return _Bubbles(np.zeros((count, 7)), np.full(count, -np.inf))

    def left_by(self, reach: Array, least: Array, greatest: Array) -> NDArray[np.intp]:
        """Which distances could be used up between these positions."""
        farthest = np.maximum(greatest - self.centres, self.centres - least)
        used = np.einsum("pn,pn->p", reach, farthest)
        return np.flatnonzero(used >= self.rooms)


class Guard:
    """Judges the way the arm would brake on after a command, by all its rooms.

    It remembers how much room there was, and computes a distance again only when that could be used up: the same
    verdict, sooner. The way is looked at every `_SPACING` or so; what lies between two looks is left to the margins.
    """

    def __init__(self, geometry: ArmGeometry, rooms: tuple[Room, ...]) -> None:
        self._geometry = geometry
        self._rooms = rooms
        self._bubbles = [_Bubbles.none(len(room.reach)) for room in rooms]

    def violation(self, after: Way, before: Way) -> Violation | None:
        """Why the arm must not take the command ``after`` which it would brake on from; None where it may.

        Room that is overdrawn on the way it would have braked on ``before`` may stay so, but not become less: from
        outside, the arm can return.
        """
        least, greatest = after.reaches
        for room, bubbles in zip(self._rooms, self._bubbles, strict=True):
            doubtful = bubbles.left_by(room.reach, least, greatest)
            if not doubtful.size:
                continue
            looks = 2 + min(int((room.reach[doubtful] @ (greatest - least)).max() / _SPACING), _LOOKS)
            postures = after.postures(looks)
            found = room.room(self._geometry.frames(postures), doubtful)
            bubbles.centres[doubtful], bubbles.rooms[doubtful] = postures[0], found[0]
            used_up = np.flatnonzero(found.min(axis=0) < 0.0)
            if not used_up.size:
                continue
            overdrawn = room.room(self._geometry.frames(before.postures(looks)), doubtful[used_up]).min(axis=0)
            worse = found[:, used_up].min(axis=0) - np.minimum(overdrawn, 0.0)
            worst = int(np.argmin(worse))
            if worse[worst] < -_ROUNDING:
                return Violation(room.kind, room.words(int(doubtful[used_up[worst]])))
        return None

    def resting_violation(self, posture: Array) -> Violation | None:
        """What is wrong with being at rest at ``posture``, shape (7,); None where nothing is."""
        frames = self._geometry.frames(posture[None])
        for room in self._rooms:
            found = room.room(frames, np.arange(len(room.reach)))[0]
            worst = int(np.argmin(found))
            if found[worst] < 0.0:
                return Violation(room.kind, room.words(worst))
        return None
