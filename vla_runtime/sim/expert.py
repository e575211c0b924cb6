"""A scripted expert that sees what no policy sees, the cubes' exact places: who demonstrates and labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.sim.episode import CONTROL_PERIOD, Episode, spot_beside
from vla_runtime.sim.plan import APPROACH, GRASPED, Phase, Plan, plan_to

HORIZON = 16

_AWAY = 0.012  # [m], beside the cube, beyond which going down would push it
_MOVED = 0.002  # [m], a cube that was touched
_KICKS = 0.15  # in a control period
_PERSISTENCE = 0.6  # of a kick, from one control period to the next
_NOTHING = 0.001  # [rad]
_GRIPPER_NOISE = 0.1  # [m/rad], of the gripper against a joint's
_CARE = 0.3  # of the noise, where little of it undoes the work
_CAREFUL = (Phase.CLOSE, Phase.LOWER, Phase.RELEASE)


class Expert:
    """Acts in an episode at its pace: `act`, `Episode.advance` with what it gave, and again.

    With ``noise`` [rad] it executes something else than it means, each joint wrong by about that much, at random but
    persistently, so that the episode visits places from which the way back must be learnt; `chunk` is what it means.
    (After DART: Laskey et al., "Noise Injection for Robust Imitation Learning", CoRL 2017.)
    """

    def __init__(self, episode: Episode, *, noise: float = 0.0, seed: int = 0) -> None:
        import mujoco

        self._episode = episode
        self._noise = noise
        self._rng = np.random.default_rng(seed)
        self._drift = np.zeros(7)
        self._kinematics = mujoco.mj_kinematics
        self._shadow = mujoco.MjData(episode.scene.model)
        self._begin()

    def act(self) -> NDArray[np.float64]:
        """The targets of the next control period, joints [rad] and gripper [m]. Shape (7,)."""
        self._look()
        targets = self._plan.next().targets
        if self._noise > 0:
            most = PIPER_LIMITS.velocity * CONTROL_PERIOD
            targets = np.clip(targets + self._swerve(), self._plan.targets - most, self._plan.targets + most)
        return np.clip(targets, PIPER_LIMITS.lower, PIPER_LIMITS.upper)

    def chunk(self, colour: str, horizon: int = HORIZON) -> NDArray[np.float64] | None:
        """What it would do from the present state if ``colour`` were the named cube. Shape (horizon, 7).

        ``None`` where that has no meaning: once the named cube's grasping has begun, or beside itself.
        """
        self._look()
        if colour == self._episode.colour:
            return self._plan.ahead(horizon)
        if colour == self._episode.goal or self._plan.phase not in APPROACH:
            return None
        return self._plan_for(colour).ahead(horizon)

    def chunk_beside(self, goal: str, horizon: int = HORIZON) -> NDArray[np.float64] | None:
        """What it would do from the present state if the named cube were to be put beside ``goal``. Shape (horizon, 7).

        ``None`` where that has no meaning: while no cube is lifted or carried, or beside itself.
        """
        self._look()
        episode = self._episode
        if goal == episode.colour or episode.goal is None or self._plan.phase not in (Phase.LIFT, Phase.CARRY):
            return None
        return self._plan.put_at(spot_beside(episode.scene.cube_positions()[goal])).ahead(horizon)

    def _begin(self) -> None:
        self._plan = self._plan_for(self._episode.colour)
        self._cube = self._episode.scene.cube_positions()[self._episode.colour]
        self._seen = self._episode.time

    def _look(self) -> None:
        """Take in what the last targets led to, once."""
        if self._seen == self._episode.time:
            return
        self._plan = replace(self._plan.next(), targets=self._episode.scene.commanded)
        self._seen = self._episode.time
        if self._has_failed():
            self._begin()

    def _has_failed(self) -> bool:
        """Does what was planned lead nowhere from here?"""
        episode, phase = self._episode, self._plan.phase
        cube = episode.scene.cube_positions()[episode.colour]
        if phase in APPROACH:
            away = np.linalg.norm(self._point(self._plan.targets)[:2] - cube[:2])
            return bool(np.linalg.norm(cube - self._cube) > _MOVED or (phase is Phase.DESCEND and away > _AWAY))
        if phase in GRASPED:
            return episode.touching(episode.colour) < 2
        return episode.task == "place" and self._plan.finished and not episode.holding

    def _plan_for(self, colour: str) -> Plan:
        """The plan from the present targets with nothing in the fingers."""
        episode = self._episode
        cubes, targets = episode.scene.cube_positions(), episode.scene.commanded
        with episode.scene.lock:
            turn = episode.scene.data.body(colour).xmat.copy()
        spot = spot_beside(cubes[episode.goal]) if episode.goal is not None else None
        yaw = float(np.arctan2(turn[3], turn[0]))
        return plan_to(episode.task, targets, self._point(targets), cubes[colour], yaw, spot)

    def _point(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Between the fingers when the joints are at ``targets`` [m]. Shape (3,)."""
        model = self._episode.scene.model
        for joint in range(6):
            self._shadow.qpos[model.joint(f"joint{joint + 1}").qposadr[0]] = targets[joint]
        self._kinematics(model, self._shadow)
        return np.array(self._shadow.site("grasp").xpos)

    def _swerve(self) -> NDArray[np.float64]:
        """What is added to the targets; remembers itself. Shape (7,)."""
        kick = self._rng.normal(0, self._noise, 7) * (self._rng.random() < _KICKS)
        self._drift = _PERSISTENCE * self._drift + kick
        self._drift[np.abs(self._drift) < _NOTHING] = 0.0
        swerve = self._drift * (_CARE if self._plan.phase in _CAREFUL else 1.0)
        swerve[6] *= _GRIPPER_NOISE
        return swerve
