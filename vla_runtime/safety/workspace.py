"""Where the tool may be, and how far the arm stays from the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_runtime.errors import BadInput
from vla_runtime.safety.arm_geometry import HAND, ArmGeometry
from vla_runtime.safety.interventions import WORKSPACE

Array = NDArray[np.float64]

_AXES = ("x", "y", "z")
_STANDING = ("base", "link1")  # they only turn about the vertical
_SMALLEST, _LARGEST = 0.01, 3.0  # [m], of a box one may mean
_WIDEST_MARGIN = 0.1  # [m]


@dataclass(frozen=True, eq=False)
class Workspace:
    """Where the arm may be, in its base frame: z up from the plate it stands on, x ahead, in [m].

    lower, upper: corners of the box the tool point may be in. Shape (3,).
    table_height: of the table everywhere around the base; no part of the arm goes below.
    margin: the room that is kept to the table and between links that do not share a joint.
    tool: the tool point in the flange's frame (`vla_runtime.arms.piper_kinematics`). Shape (3,).

    The defaults let a PiPER go nearly everywhere it can reach, and guard a table a little below the plate: whoever
    knows the place better narrows them. Raises `BadInput` naming the value.
    """

    lower: NDArray[np.float64] = field(default_factory=lambda: np.array([-0.8, -0.8, -0.1]))
    upper: NDArray[np.float64] = field(default_factory=lambda: np.array([0.8, 0.8, 1.0]))
    table_height: float = -0.02
    margin: float = 0.005
    tool: NDArray[np.float64] = field(default_factory=lambda: np.array([0.0, 0.0, 0.138]))

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "tool"):
            object.__setattr__(self, name, _three(f"workspace.{name}", getattr(self, name)))
        for axis, low, high in zip(_AXES, self.lower, self.upper, strict=True):
            if not _SMALLEST <= high - low <= _LARGEST:
                raise BadInput(
                    f"workspace {axis} from {low:g} to {high:g} m: it must be {_SMALLEST:g} to {_LARGEST:g} m long"
                )
        if not -1.0 <= self.table_height <= 1.0:
            raise BadInput(f"workspace.table_height must be between -1 and 1 m, got {self.table_height}")
        if not 0.0 <= self.margin <= _WIDEST_MARGIN:
            raise BadInput(f"workspace.margin must be between 0 and {_WIDEST_MARGIN:g} m, got {self.margin}")


def _three(name: str, values: ArrayLike | Sequence[float]) -> Array:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} must be three numbers (x, y, z), got {values!r}") from error
    if array.shape != (3,) or not np.isfinite(array).all():
        raise BadInput(f"{name} must be three finite numbers (x, y, z), got {values!r}")
    array.setflags(write=False)
    return array


PIPER_WORKSPACE = Workspace()


class WorkspaceRoom:
    """Room between the tool point and the six sides of its box, and between each shape of the arm and the table.

    reach: how much of it one unit of a coordinate uses up at most. Shape (6 + shapes, 7).
    """

    kind = WORKSPACE

    def __init__(self, geometry: ArmGeometry, workspace: Workspace) -> None:
        self._workspace = workspace
        self._hand = geometry.names.index(HAND)
        self._tool = np.append(workspace.tool, 1.0)
        shapes = [shape for shape in geometry.shapes if geometry.names[shape.body] not in _STANDING]
        self._bodies = np.array([shape.body for shape in shapes])
        self._places = np.array([np.append(shape.place, 1.0) for shape in shapes])
        self._turns = np.array([shape.turn for shape in shapes])
        size = np.array([shape.size for shape in shapes])
        kinds = np.array([shape.kind for shape in shapes])
        # What a shape's axes, and its roundness, contribute to how far it extends in a direction.
        box, cylinder = (kinds == "box")[:, None], kinds == "cylinder"
        along = np.column_stack([np.zeros((len(shapes), 2)), size[:, 1] * (kinds != "sphere")])
        self._straight = np.where(box, size, along)
        self._rim = np.where(cylinder, size[:, 0], 0.0)
        self._ball = np.where(cylinder | box[:, 0], 0.0, size[:, 0])
        self._names = [geometry.names[shape.body] for shape in shapes]
        farthest = [
            float(np.linalg.norm(place[:3]) + np.linalg.norm(s)) for place, s in zip(self._places, size, strict=True)
        ]
        tool = geometry.reach(self._hand, float(np.linalg.norm(workspace.tool)))
        heights = [geometry.reach(s.body, far) for s, far in zip(shapes, farthest, strict=True)]
        self.reach = np.array([tool] * 6 + heights)
        self.reach[6:, 0] = 0.0  # joint1 turns about the vertical

    def room(self, frames: Array, which: NDArray[np.intp]) -> Array:
        """Room to these sides and of these shapes, in [m], negative where it is overdrawn. Shape (n, asked)."""
        tool = frames[:, self._hand, :3] @ self._tool
        sides = np.column_stack([tool - self._workspace.lower, self._workspace.upper - tool])
        rows = frames[:, self._bodies, 2]
        heights = np.einsum("nsi,si->ns", rows, self._places)
        down = np.einsum("nsi,sij->nsj", rows[..., :3], self._turns)  # the vertical in the shape's own axes
        extent = np.einsum("nsj,sj->ns", np.abs(down), self._straight)
        extent += self._rim * np.hypot(down[..., 0], down[..., 1]) + self._ball
        above = heights - extent - self._workspace.table_height - self._workspace.margin
        room: Array = np.concatenate([sides, above], axis=1)[:, which]
        return room

    def words(self, index: int) -> str:
        """What it is that must not happen at a side or to a shape."""
        if index >= 6:
            return f"{self._names[index - 6]} would come too near the table"
        side = ("lower", "upper")[index // 3]
        edge = getattr(self._workspace, side)[index % 3]
        return f"the tool would leave the workspace: {_AXES[index % 3]} {side} {edge:g} m"
