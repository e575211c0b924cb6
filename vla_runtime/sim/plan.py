"""The way to a task's end as a few poses in a row, and the even pace at which the arm goes from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from vla_runtime.sim.episode import HOVER
from vla_runtime.sim.inverse_kinematics import joints_at

OPEN, SHUT = 0.06, 0.02  # [m], a cube is 0.036
CLEAR = 0.066  # [m], the point between the fingers is above this when they pass over cubes

_GRASP = 0.003  # [m], above the cube's centre
_RAISED = 0.085  # [m], where fingers that are too low to travel go first
_LIFT = 0.10  # [m], above where the cube lay
_CARRY = 0.07  # [m], above the place where it will lie

_STRAIGHT = 0.010  # [m], beside the cube, within which the fingers go straight down or up
_ALIGNED = 0.2  # [rad], between the fingers and the cube's sides
_WIDE = 0.054  # [m], of an opening that fits around the cube

_FASTEST, _SLOWEST = 0.08, 0.012  # [rad] in a control period, of the joint that has the longest way
_GAIN = 0.45  # of what is left, in a control period
_GRIPPER = 0.009  # [m] in a control period


class Phase(Enum):
    """What the arm is about."""

    RAISE, TRAVEL, DESCEND, CLOSE, LIFT, CARRY, LOWER, RELEASE, RETREAT = range(9)


APPROACH = (Phase.RAISE, Phase.TRAVEL, Phase.DESCEND)
"""While these last nothing is in the fingers."""
GRASPED = (Phase.LIFT, Phase.CARRY, Phase.LOWER)
"""While these last the cube is in the fingers."""


@dataclass(frozen=True)
class Stage:
    """A pose to go to: ``pose`` joints [rad], gripper [m], shape (7,). It is done when every joint is within
    ``tolerance`` [rad] and the gripper is there."""

    phase: Phase
    pose: NDArray[np.float64]
    tolerance: float = 0.008

    def done(self, targets: NDArray[np.float64]) -> bool:
        """Are the motors' ``targets``, shape (7,), at this pose?"""
        away = np.abs(targets - self.pose)
        return bool(away[:6].max() <= self.tolerance and away[6] <= 1e-3)


@dataclass(frozen=True)
class Plan:
    """The stages of a task, the one under way, and the motors' last targets, shape (7,). Never changes: `next` makes
    the plan one control period later."""

    stages: tuple[Stage, ...]
    targets: NDArray[np.float64]
    at: int = 0

    @property
    def phase(self) -> Phase:
        """What is under way."""
        return self.stages[self.at].phase

    @property
    def finished(self) -> bool:
        """Is the last pose reached? The plan holds it from then on."""
        return self.at == len(self.stages) - 1 and self.stages[-1].done(self.targets)

    def next(self) -> Plan:
        """One control period on. ``targets`` are what the motors are to be told in it."""
        at = self.at
        while at < len(self.stages) - 1 and self.stages[at].done(self.targets):
            at += 1
        return replace(self, at=at, targets=_towards(self.stages[at].pose, self.targets))

    def put_at(self, spot: NDArray[np.float64]) -> Plan:
        """The plan whose cube is put elsewhere, shape (3,); of a plan that puts one down, and before it does."""
        stages = [stage for stage in self.stages if stage.phase.value <= Phase.LIFT.value]
        return replace(self, stages=(*stages, *_put_down(spot)))

    def ahead(self, horizon: int) -> NDArray[np.float64]:
        """The targets of the next ``horizon`` control periods. Shape (horizon, 7)."""
        plan, chunk = self, []
        for _ in range(horizon):
            plan = plan.next()
            chunk.append(plan.targets)
        return np.stack(chunk)


def plan_to(
    task: str,
    targets: NDArray[np.float64],
    point: NDArray[np.float64],
    cube: NDArray[np.float64],
    yaw: float,
    spot: NDArray[np.float64] | None,
) -> Plan:
    """The plan for a cube that lies on the table, from any pose with nothing in the fingers.

    targets: the motors' last ones, shape (7,). point: between the fingers there [m], shape (3,). cube: its centre [m],
    shape (3,); yaw: its turn [rad]. spot: where to put it, shape (3,), for placing.
    """
    hover = np.append(_above(cube, HOVER, yaw), OPEN)
    stages = [Stage(Phase.TRAVEL, hover, tolerance=0.03)]
    beside = float(np.linalg.norm(point[:2] - cube[:2]))
    if task != "reach":
        grasp = np.append(_above(cube, _GRASP, yaw), OPEN)
        turned = abs((targets[5] - targets[0]) - (grasp[5] - grasp[0]))
        if beside < _STRAIGHT and point[2] < cube[2] + HOVER and turned < _ALIGNED and targets[6] > _WIDE:
            stages.clear()
        stages += _grasp_and_lift(grasp, cube, yaw)
        if spot is not None:
            stages += _put_down(spot)
    if beside >= _STRAIGHT and point[2] < CLEAR:
        raised = np.append(joints_at((*point[:2], _RAISED), 0.0), OPEN)
        raised[5] = targets[5]
        stages.insert(0, Stage(Phase.RAISE, raised, tolerance=0.05))
    return Plan(tuple(stages), targets)


def _grasp_and_lift(grasp: NDArray[np.float64], cube: NDArray[np.float64], yaw: float) -> list[Stage]:
    closed = np.append(grasp[:6], SHUT)
    lifted = np.append(_above(cube, _LIFT, yaw), SHUT)
    return [Stage(Phase.DESCEND, grasp), Stage(Phase.CLOSE, closed), Stage(Phase.LIFT, lifted, tolerance=0.05)]


def _put_down(spot: NDArray[np.float64]) -> list[Stage]:
    """The fingers across the line from the arm's base, so that they open clear of the cube behind."""
    yaw = float(np.arctan2(spot[1], spot[0]))
    over, down, up = (_above(spot, height, yaw) for height in (_CARRY, _GRASP + 0.001, HOVER))
    return [
        Stage(Phase.CARRY, np.append(over, SHUT), tolerance=0.02),
        Stage(Phase.LOWER, np.append(down, SHUT)),
        Stage(Phase.RELEASE, np.append(down, OPEN)),
        Stage(Phase.RETREAT, np.append(up, OPEN)),
    ]


def _above(place: NDArray[np.float64], height: float, yaw: float) -> NDArray[np.float64]:
    """Six joints [rad] with the fingers ``height`` [m] above ``place``, shape (3,)."""
    return joints_at((place[0], place[1], place[2] + height), yaw)


def _towards(pose: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """All joints in proportion, slower towards the end; the gripper at its own pace. Shape (7,)."""
    way = pose - targets
    longest = float(np.abs(way[:6]).max())
    length = min(longest, float(np.clip(_GAIN * longest, _SLOWEST, _FASTEST)))
    step = way * (length / longest if longest > 0 else 0.0)
    step[6] = np.clip(way[6], -_GRIPPER, _GRIPPER)
    return targets + step
