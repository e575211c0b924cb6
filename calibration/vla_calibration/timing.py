"""How much a camera's stamps are off, measured by what moves: its pictures change as the joints do."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_runtime.errors import WorkFailed

SPAN = 0.5
"""The largest offset that is looked for, in [s], either way."""

_WIDTH = 96  # [px] of the pictures compared: motion shows, noise averages out
_COARSE, _FINE = 0.005, 0.0005  # [s], steps of the search
_LEAST_IMAGES = 60
_LEAST_MOTION = 0.005  # [rad], between two pictures: the fastest tenth of them
_LEAST_FIT = 0.5
_LARGEST_ERROR = 0.02  # [s]
_BLOCKS = 8


@dataclass
class ImageMotion:
    """How much the pictures of one camera change.

    stamps: of the pictures, in [s]. energies: mean absolute difference to the picture before, in grey levels of 256;
    NaN for the first.
    """

    stamps: list[float] = field(default_factory=list)
    energies: list[float] = field(default_factory=list)
    _before: NDArray[np.float32] | None = None

    def add(self, stamp: float, image: NDArray[np.uint8]) -> None:
        """The next picture (height, width, 3), RGB; one no newer than the one before is left out."""
        if self.stamps and stamp <= self.stamps[-1]:
            return
        height, width = image.shape[:2]
        size = (min(_WIDTH, width), max(1, round(height * min(_WIDTH, width) / width)))
        grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY).astype(
            np.float32
        )
        before = self._before
        same = before is not None and before.shape == grey.shape
        self.energies.append(float(np.abs(grey - before).mean()) if before is not None and same else float("nan"))
        self.stamps.append(stamp)
        self._before = grey


@dataclass
class JointMotion:
    """Where the joints were. stamps: in [s]. positions: per stamp, shape (n,), in [rad] and [m]."""

    stamps: list[float] = field(default_factory=list)
    positions: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, stamp: float, positions: NDArray[np.float64]) -> None:
        """The next measurement; one no newer than the one before is left out."""
        if not self.stamps or stamp > self.stamps[-1]:
            self.stamps.append(stamp)
            self.positions.append(positions)


@dataclass(frozen=True)
class Offset:
    """What is to be added to a camera's stamps, in [s].

    error: its standard error, in [s]. fit: the correlation of the pictures' changes with the joints', up to 1.
    images: how many pictures were compared.
    """

    seconds: float
    error: float
    fit: float
    images: int


def offset(camera: str, images: ImageMotion, joints: JointMotion) -> Offset:
    """By how much the stamps of ``camera`` must be moved for its pictures to change with the joints.

    For an offset δ, the change between two pictures taken at a and b is compared with the way of the joints from a + δ
    to b + δ; the offset is where their square roots correlate best. The root is because pictures change less and less
    the farther something moves. Both are differences over one and the same interval, so its length is no bias. Motion
    that begins and ends is told best. The error is the jackknife's, over blocks of consecutive pictures.

    Raises `WorkFailed`, saying what to do, where that cannot be told: too short, no motion, a camera that does not see
    it, or an offset beyond `SPAN`.
    """
    taken, changes, when, where = _usable(camera, images, joints)
    ends = np.stack([taken[:-1], taken[1:]], axis=1)
    seen = np.isfinite(changes) & (ends[:, 0] - SPAN >= when[0]) & (ends[:, 1] + SPAN <= when[-1])
    ends, changes = ends[seen], changes[seen]
    if len(changes) < _LEAST_IMAGES:
        raise WorkFailed(
            f"camera {camera}: {len(changes)} pictures with joints before and after them, {_LEAST_IMAGES} are needed: "
            "measure longer"
        )
    moved = np.abs(_moved(0.0, ends, when, where)[:, :6]).max(axis=1)
    if np.quantile(moved, 0.9) < _LEAST_MOTION:
        raise WorkFailed(f"camera {camera}: the joints hardly moved: move the arm meanwhile, in quick, short moves")
    coarse = np.arange(-SPAN, SPAN + _COARSE / 2, _COARSE)
    fits = _fits(coarse, ends, changes, when, where)
    best = int(np.argmax(fits))
    if fits[best] < _LEAST_FIT:
        raise WorkFailed(
            f"camera {camera}: its pictures do not change with the joints (correlation {fits[best]:.2f}): it must see "
            "the arm, or move with it, and nothing else may move"
        )
    if best in (0, len(coarse) - 1):
        raise WorkFailed(f"camera {camera} is more than {SPAN:g} s off: synchronise the clocks first")
    found = _refined(float(coarse[best]), ends, changes, when, where)
    blocks = np.array_split(np.arange(len(changes)), _BLOCKS)
    without = []
    for block in blocks:
        rest = np.delete(np.arange(len(changes)), block)
        without.append(_refined(found, ends[rest], changes[rest], when, where))
    spread = np.array(without) - np.mean(without)
    error = float(np.sqrt((_BLOCKS - 1) / _BLOCKS * np.sum(spread**2)))
    if error > _LARGEST_ERROR:
        raise WorkFailed(
            f"camera {camera}: {found:+.3f} s is uncertain by {error:.3f} s: measure longer, with quick, short "
            "moves and pauses between them"
        )
    return Offset(found, error, float(fits[best]), len(changes))


_Arrays = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _usable(camera: str, images: ImageMotion, joints: JointMotion) -> _Arrays:
    if len(images.stamps) < 2:
        raise WorkFailed(f"camera {camera}: {len(images.stamps)} pictures came: is it running?")
    if len(joints.stamps) < 2:
        raise WorkFailed(f"{len(joints.stamps)} joint states came: is the arm node running?")
    return (
        np.array(images.stamps),
        np.array(images.energies)[1:],
        np.array(joints.stamps),
        np.array(joints.positions),
    )


def _moved(
    shift: float, ends: NDArray[np.float64], when: NDArray[np.float64], where: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What each joint moved between the pictures, both ``shift`` [s] later than stamped. Shape (n, joints)."""
    at = [np.interp((ends + shift).ravel(), when, column).reshape(ends.shape) for column in where.T]
    return np.stack([np.diff(column, axis=1)[:, 0] for column in at], axis=1)


def _fits(
    shifts: NDArray[np.float64],
    ends: NDArray[np.float64],
    changes: NDArray[np.float64],
    when: NDArray[np.float64],
    where: NDArray[np.float64],
) -> NDArray[np.float64]:
    """How the changes correlate with the way of the joints, for each shift. Shape of ``shifts``."""
    roots = np.sqrt(changes)
    out = np.zeros(len(shifts))
    for n, shift in enumerate(shifts):
        way = np.sqrt(np.linalg.norm(_moved(float(shift), ends, when, where)[:, :6], axis=1))
        if way.std() > 0 and roots.std() > 0:
            out[n] = np.corrcoef(way, roots)[0, 1]
    return out


def _refined(
    near: float,
    ends: NDArray[np.float64],
    changes: NDArray[np.float64],
    when: NDArray[np.float64],
    where: NDArray[np.float64],
) -> float:
    """The best shift around ``near``: the top of a parabola through the fits about the best step."""
    shifts = near + np.arange(-3 * _COARSE, 3 * _COARSE + _FINE / 2, _FINE)
    best = float(shifts[int(np.argmax(_fits(shifts, ends, changes, when, where)))])
    around = best + np.array([-_COARSE, 0.0, _COARSE])
    left, middle, right = _fits(around, ends, changes, when, where)
    bend = left - 2 * middle + right
    return best if bend >= 0 else float(np.clip(best + 0.5 * _COARSE * (left - right) / bend, around[0], around[-1]))
