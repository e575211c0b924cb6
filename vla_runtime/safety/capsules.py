"""Capsules that hold the arm's shapes, and the distances between them."""

from __future__ import annotations

from math import hypot
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.arm_geometry import ArmGeometry, Shape

Array = NDArray[np.float64]


class Capsule(NamedTuple):
    """All points within ``radius`` [m] of the segment between ``ends``, shape (2, 3), in the frame of ``body``."""

    body: int
    ends: Array
    radius: float


def around(shape: Shape) -> Capsule:
    """The least bulky of the capsules along the shape's axes that hold all of it.

    A capsule along an axis on which the shape reaches ``h`` to either side, and ``r`` across, may have its segment end
    ``s`` before the shape does when its radius is hypot(r, s). A sphere or capsule is its own.
    """
    if shape.kind in ("sphere", "capsule"):
        half = np.array([0.0, 0.0, shape.size[1]])
        return _placed(shape, half, float(shape.size[0]))
    extents = shape.size if shape.kind == "box" else np.array([0.0, 0.0, shape.size[1]])
    best: tuple[float, Array, float] | None = None
    for axis in (0, 1, 2) if shape.kind == "box" else (2,):
        h = float(extents[axis])
        r = hypot(*np.delete(extents, axis)) if shape.kind == "box" else float(shape.size[0])
        for s in np.linspace(0.0, h, 33):
            radius = hypot(r, float(s))
            volume = radius**2 * (2 * (h - s) + 4 * radius / 3)
            if best is None or volume < best[0]:
                best = (volume, (h - s) * np.eye(3)[axis], radius)
    if best is None:
        raise ValueError(f"no capsule goes around a shape of type {shape.kind}")
    return _placed(shape, best[1], best[2])


def _placed(shape: Shape, half: Array, radius: float) -> Capsule:
    along = shape.turn @ half
    return Capsule(shape.body, np.array([shape.place - along, shape.place + along]), radius)


def capsules_of(geometry: ArmGeometry) -> tuple[Capsule, ...]:
    """One capsule around each shape, but none that lies within another of the same body."""
    found = [around(shape) for shape in geometry.shapes]
    return tuple(c for i, c in enumerate(found) if not any(_within(c, other) for other in found[:i] + found[i + 1 :]))


def _within(inner: Capsule, outer: Capsule) -> bool:
    if inner.body != outer.body or inner.radius >= outer.radius:
        return False
    start, along = outer.ends[0], outer.ends[1] - outer.ends[0]
    length = float(along @ along)
    for end in inner.ends:
        t = min(max(float((end - start) @ along) / length, 0.0), 1.0) if length > 0 else 0.0
        if float(np.linalg.norm(end - start - t * along)) + inner.radius > outer.radius:
            return False
    return True


def segment_distances(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The distances between the segments from ``a`` to ``b`` and from ``c`` to ``d``, in [m]. Shapes (..., 3) → (...).

    The nearest points of two segments, after Ericson, *Real-Time Collision Detection* (2005), section 5.1.9: nearest
    on the two lines, clamped to the one segment, then the other, then the first again. A segment may be a point.
    """
    along, across, apart = b - a, d - c, a - c
    aa, cc = _dot(along, along), _dot(across, across)
    ac, ar, cr = _dot(along, across), _dot(along, apart), _dot(across, apart)
    tiny = 1e-18
    cross = aa * cc - ac * ac
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.where(cross > tiny * aa * cc, np.clip((ac * cr - ar * cc) / cross, 0.0, 1.0), 0.0)
        t = np.where(cc > tiny, (ac * s + cr) / cc, 0.0)
        t = np.clip(t, 0.0, 1.0)
        s = np.where(aa > tiny, np.clip((ac * t - ar) / aa, 0.0, 1.0), 0.0)
    distances: Array = np.sqrt(np.maximum(_square(apart + s[..., None] * along - t[..., None] * across), 0.0))
    return distances


def _dot(x: Array, y: Array) -> Array:
    product: Array = np.einsum("...i,...i->...", x, y)
    return product


def _square(x: Array) -> Array:
    return _dot(x, x)
