"""The arm's links in space: the bodies and shapes of its MJCF, without MuJoCo."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from vla_runtime.arms.arm import JOINT_NAMES

Array = NDArray[np.float64]

PIPER_MJCF = Path(__file__).parents[1] / "sim" / "piper.xml"
HAND = "link6"
"""The body whose frame is the flange's."""

_FINGERS = {"finger_left": 0.5, "finger_right": 0.5}  # each goes half of the gripper's opening
_STROKE = 0.05  # [m], the farthest that is, with the widest gripper there is


class Shape(NamedTuple):
    """One geom. kind: sphere, capsule, cylinder or box. size: MuJoCo's, filled up with zeros, in [m]. Shape (3,).

    body: index of its body. turn: (3, 3) and place: (3,) [m] in the frame of that body.
    """

    kind: str
    size: Array
    body: int
    turn: Array
    place: Array


@dataclass(frozen=True, eq=False)
class ArmGeometry:
    """Bodies in a tree, each after its parent, moved by the seven coordinates of a posture.

    names, parents: of the bodies; the parent of the first is -1.
    shapes: what the bodies are made of.
    fixed, along_cosine, along_sine: a body's frame in its parent's is ``fixed + f along_cosine + g along_sine`` with
        f, g = cos q, sin q for a hinge and f, g = 1, q for a slide. Shape (bodies, 4, 4) each.
    coordinate, scale, hinge: which coordinate of the posture moves a body, by how much, and how. Shape (bodies,) each.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    shapes: tuple[Shape, ...]
    fixed: Array
    along_cosine: Array
    along_sine: Array
    coordinate: NDArray[np.intp]
    scale: Array
    hinge: NDArray[np.bool_]

    def frames(self, postures: Array) -> Array:
        """The frames of all bodies in the base's, for ``postures`` in [rad] and [m], shape (n, 7).

        Shape (n, bodies, 4, 4).
        """
        moved = postures[:, self.coordinate] * self.scale
        f = np.where(self.hinge, np.cos(moved), 1.0)[..., None, None]
        g = np.where(self.hinge, np.sin(moved), moved)[..., None, None]
        frames: Array = self.fixed + f * self.along_cosine + g * self.along_sine
        for body, parent in enumerate(self.parents):
            if parent >= 0:
                frames[:, body] = frames[:, parent] @ frames[:, body]
        return frames

    def zeroed_at(self, offsets: Array) -> ArmGeometry:
        """The same arm whose coordinates read less by ``offsets`` in the same posture, in [rad]. Shape (7,)."""
        turn = (offsets[self.coordinate] * self.scale * self.hinge)[:, None, None]
        cosine = np.cos(turn) * self.along_cosine + np.sin(turn) * self.along_sine
        sine = np.cos(turn) * self.along_sine - np.sin(turn) * self.along_cosine
        hinge = self.hinge[:, None, None]
        return replace(
            self,
            along_cosine=np.where(hinge, cosine, self.along_cosine),
            along_sine=np.where(hinge, sine, self.along_sine),
        )

    def reach(self, body: int, distance: float, fixed: int = -1) -> Array:
        """How far a point of ``body``, ``distance`` [m] from its origin, goes at most for each unit of a coordinate.

        As seen from the body ``fixed``, one between it and the base, by default the base itself. A point turns about a
        joint on a radius no larger than the links between them are long. Shape (7,), [m/rad], for the gripper 1.
        """
        reach = np.zeros(len(JOINT_NAMES))
        while body not in (fixed, -1):
            if self.scale[body] > 0.0:
                reach[self.coordinate[body]] += distance if self.hinge[body] else self.scale[body]
            distance += float(np.linalg.norm(self.fixed[body, :3, 3])) + (0.0 if self.hinge[body] else _STROKE)
            body = self.parents[body]
        return reach


@lru_cache(maxsize=1)
def piper_geometry() -> ArmGeometry:
    """The PiPER with firmware S-V1.6-3 or later."""
    return read_geometry(PIPER_MJCF)


def read_geometry(path: Path) -> ArmGeometry:
    """The geometry an MJCF of one arm describes: hinges joint1 … joint6 about their z axes and sliding fingers.

    It understands what the file uses: angles in [rad], intrinsic x-y-z ``euler``, ``fromto``, classes with
    ``childclass``. Raises ValueError for anything else that would change the geometry.
    """
    root = ElementTree.parse(path).getroot()
    reader = _Reader(_classes(root.find("default")))
    world = root.find("worldbody")
    bodies = [] if world is None else world.findall("body")
    if len(bodies) != 1:
        raise ValueError(f"{path}: one arm's base was expected in the worldbody, found {len(bodies)} bodies")
    reader.body(bodies[0], -1, "")
    return reader.geometry()


class _Reader:
    """Collects bodies and shapes in the order of the file."""

    def __init__(self, classes: dict[str, dict[str, dict[str, str]]]) -> None:
        self._classes = classes
        self._names: list[str] = []
        self._parents: list[int] = []
        self._shapes: list[Shape] = []
        self._frames: list[tuple[Array, Array, Array]] = []
        self._moved: list[tuple[int, float, bool]] = []

    def body(self, element: ElementTree.Element, parent: int, style: str) -> None:
        style = element.get("childclass", style)
        index = len(self._names)
        self._names.append(element.get("name", ""))
        self._parents.append(parent)
        frame = np.eye(4)
        frame[:3, :3], frame[:3, 3] = _turn(element.attrib), _numbers(element.attrib, "pos", (0, 0, 0))
        joints = element.findall("joint")
        if len(joints) > 1:
            raise ValueError(f"body {self._names[-1]} has {len(joints)} joints; one or none was expected")
        self._joint(frame, self._attributes(joints[0], style) if joints else None)
        for geom in element.findall("geom"):
            self._shapes.append(_shape(self._attributes(geom, style), index))
        for child in element.findall("body"):
            self.body(child, index, style)

    def _attributes(self, element: ElementTree.Element, style: str) -> dict[str, str]:
        return {**self._classes[element.get("class", style)].get(element.tag, {}), **element.attrib}

    def _joint(self, frame: Array, joint: dict[str, str] | None) -> None:
        along = np.zeros((2, 4, 4))
        if joint is None:
            self._moved.append((0, 0.0, True))
            self._frames.append((frame, *along))
            return
        name, axis = joint["name"], _numbers(joint, "axis", (0, 0, 1))
        if "pos" in joint or "ref" in joint:
            raise ValueError(f"joint {name}: neither pos nor ref is understood")
        if joint.get("type", "hinge") == "slide":
            along[1, :3, 3] = frame[:3, :3] @ axis
            self._moved.append((JOINT_NAMES.index("gripper"), _FINGERS[name], False))
            self._frames.append((frame, *along))
            return
        if not np.array_equal(axis, (0, 0, 1)):
            raise ValueError(f"joint {name}: a hinge about its z axis was expected, not {axis}")
        # Rz(q) = diag(0, 0, 1) + cos q diag(1, 1, 0) + sin q [z]×
        along[0, :3, :3] = frame[:3, :3] @ np.diag([1.0, 1.0, 0.0])
        along[1, :3, :3] = frame[:3, :3] @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]])
        frame[:3, :3] = frame[:3, :3] @ np.diag([0.0, 0.0, 1.0])
        self._moved.append((JOINT_NAMES.index(name), 1.0, True))
        self._frames.append((frame, *along))

    def geometry(self) -> ArmGeometry:
        fixed, cosine, sine = (np.array(part) for part in zip(*self._frames, strict=True))
        coordinate, scale, hinge = zip(*self._moved, strict=True)
        return ArmGeometry(
            tuple(self._names),
            tuple(self._parents),
            tuple(self._shapes),
            fixed,
            cosine,
            sine,
            np.array(coordinate, dtype=np.intp),
            np.array(scale),
            np.array(hinge),
        )


def _classes(element: ElementTree.Element | None) -> dict[str, dict[str, dict[str, str]]]:
    """What every class says of each kind of element, with what it inherits. The class without a name is ''."""
    found: dict[str, dict[str, dict[str, str]]] = {"": {}}
    if element is not None:
        _collect(element, {}, found)
    return found


def _collect(
    element: ElementTree.Element,
    inherited: dict[str, dict[str, str]],
    found: dict[str, dict[str, dict[str, str]]],
) -> None:
    own = {tag: dict(values) for tag, values in inherited.items()}
    for child in element:
        if child.tag != "default":
            own[child.tag] = {**own.get(child.tag, {}), **child.attrib}
    found[element.get("class", "")] = own
    for child in element.findall("default"):
        _collect(child, own, found)


def _shape(values: dict[str, str], body: int) -> Shape:
    kind = values.get("type", "sphere")
    size = np.zeros(3)
    given = _numbers(values, "size", ())
    size[: len(given)] = given
    if "fromto" in values:
        ends = _numbers(values, "fromto", ()).reshape(2, 3)
        size[1] = np.linalg.norm(ends[1] - ends[0]) / 2
        return Shape(kind, size, body, _facing(ends[1] - ends[0]), ends.mean(axis=0))
    if kind not in ("sphere", "capsule", "cylinder", "box"):
        raise ValueError(f"a geom of type {kind} is not understood")
    return Shape(kind, size, body, _turn(values), _numbers(values, "pos", (0, 0, 0)))


def _numbers(values: dict[str, str], name: str, default: tuple[float, ...]) -> Array:
    return np.array(values[name].split() if name in values else default, dtype=np.float64)


def _turn(values: dict[str, str]) -> Array:
    """The rotation of ``euler``, about x, then the new y, then the newest z. Shape (3, 3)."""
    for name in ("quat", "axisangle", "xyaxes", "zaxis"):
        if name in values:
            raise ValueError(f"an orientation given by {name} is not understood")
    (a, b, c) = _numbers(values, "euler", (0, 0, 0))
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turn: Array = x @ y @ z
    return turn


def _facing(direction: Array) -> Array:
    """A rotation that takes z to ``direction``. Shape (3, 3)."""
    z = direction / np.linalg.norm(direction)
    helper = np.eye(3)[int(np.argmin(np.abs(z)))]
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(z, x), z])
