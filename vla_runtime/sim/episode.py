"""One attempt at a task in the simulated scene: what the robot sees and does, and whether it has succeeded."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_runtime.errors import BadInput
from vla_runtime.sim.cameras import Cameras
from vla_runtime.sim.perturbation import NOMINAL, Perturbation
from vla_runtime.sim.scene import CUBE_SIZE, CUBES, HOME, Scene
from vla_runtime.sim.surroundings import CAMERAS, Surroundings

TASKS = ("reach", "lift", "place")
CONTROL_PERIOD = 0.1  # [s]
LIMITS = {"reach": 6.0, "lift": 10.0, "place": 14.0}  # [s]

HOVER = 0.06  # [m], from the cube's centre to the point between the fingers above it
BESIDE = 0.06  # [m], between the centres of the put cube and the other

_NEAR = 0.03  # [m], how far from the hovering point counts as there
_SLOW = 0.08  # [m/s], the fastest that counts as hovering
_LIFTED = 0.05  # [m]
_FARTHEST_BESIDE = 0.09  # [m]
_LIES = 0.004  # [m], how far a lying cube's centre may be from half its size
_UPRIGHT = np.cos(np.radians(10))
_STILL = 0.02  # [m/s]

_YAW = 0.35  # [rad]
_START = np.array([0.06] * 6 + [0.0])  # [rad], how far from HOME each joint may start
_FIELDS = {  # [m], where cubes are put: least and most x and y; for placing, with room in front of each
    "reach": ((0.20, -0.14), (0.34, 0.14)),
    "lift": ((0.20, -0.14), (0.34, 0.14)),
    "place": ((0.23, -0.15), (0.35, 0.15)),
}
_APART = {"reach": 0.075, "lift": 0.075, "place": 0.105}  # [m]
_ROOM = 0.065  # [m], between the centre of a cube and that of the spot where another is put


def instruction(task: str, colour: str, goal: str | None = None) -> str:
    """The task in words. ``goal``: beside which cube, for placing."""
    if task == "reach":
        return f"reach the {colour} cube"
    if task == "lift":
        return f"pick up the {colour} cube"
    return f"put the {colour} cube beside the {goal} cube"


def spot_beside(cube: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the expert puts a cube beside the one at ``cube`` [m]: on the side of the arm's base. Shape (3,)."""
    away = cube[:2] / np.linalg.norm(cube[:2])
    return np.append(cube[:2] - BESIDE * away, cube[2])


class Episode:
    """Three cubes, one of them named. The robot acts every `CONTROL_PERIOD` until ``limit``.

    scene: the simulated world.
    task: one of `TASKS`: hover above the named cube; hold it 5 cm above the table, both fingers touching it; or put it
        on the table beside another cube (within 9 cm), released, at rest, upright.
    colour: of the named cube. goal: of the one beside which it is put; ``None`` for other tasks.
    instruction: the task in words.
    limit: [s].
    succeeded_at: when it first held [s], ``None`` before.
    """

    def __init__(
        self,
        task: str,
        seed: int,
        *,
        colour: str | None = None,
        perturbation: Perturbation = NOMINAL,
        image_size: int = 64,
        render: bool = True,
    ) -> None:
        """All follows from ``task`` and ``seed``: places, names, light, cameras, objects, the arm's first pose.

        ``colour`` names another cube in the same scene; the goal becomes the cube named before if the two coincide.
        Without ``render`` nothing is drawn and `observe` cannot be called. Raises `BadInput` for an unknown task or
        colour, `WorkFailed` where nothing can render.
        """
        if task not in TASKS:
            raise BadInput(f"task '{task}' is unknown: choose from {', '.join(TASKS)}")
        self.task = task
        self.limit = LIMITS[task]
        self.scene = Scene(seed)
        self._surroundings = Surroundings(self.scene)
        model = self.scene.model
        self._fingers = [model.body(name).id for name in ("finger_left", "finger_right")]
        self._bodies = {cube: model.body(cube).id for cube in CUBES}
        self._grasp = model.site("grasp").id
        self.restart(seed, colour=colour, perturbation=perturbation)
        self._cameras = Cameras(self.scene, image_size, image_size, samples=4) if render else None

    def restart(self, seed: int, *, colour: str | None = None, perturbation: Perturbation = NOMINAL) -> None:
        """Become the episode of another seed, as if made anew."""
        if colour is not None and colour not in CUBES:
            raise BadInput(f"cube '{colour}' is unknown: choose from {', '.join(CUBES)}")
        rng = np.random.default_rng([TASKS.index(self.task), seed])
        named, goal = (CUBES[index] for index in rng.permutation(len(CUBES))[:2])
        self.colour = colour or named
        self.goal = None if self.task != "place" else named if goal == self.colour else goal
        self.instruction = instruction(self.task, self.colour, self.goal)
        places = self._scatter(rng)
        start = HOME + rng.uniform(-1, 1, 7) * _START
        self.scene.reset(seed)
        cubes = [np.append(place, CUBE_SIZE / 2) for place in places]
        around = [*cubes, *(spot_beside(cube) for cube in cubes)] if self.task == "place" else cubes
        self._surroundings.arrange(np.random.default_rng(rng.integers(2**63)), perturbation, around)
        self.scene.arrange(start, dict(zip(CUBES, zip(places, rng.uniform(-_YAW, _YAW, 3), strict=True), strict=True)))
        self._steps = 0
        self._point = self._tip()
        self._speed = 0.0
        self.succeeded_at: float | None = None

    def _scatter(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Places of the cubes, for placing with room in front of each. Shape (3, 2)."""
        while True:
            places = rng.uniform(*_FIELDS[self.task], (len(CUBES), 2))
            if _apart(places, _APART[self.task]) and (self.task != "place" or _roomy(places)):
                return places

    @property
    def time(self) -> float:
        """Since the start [s]."""
        return self._steps * CONTROL_PERIOD

    @property
    def state(self) -> NDArray[np.float64]:
        """Six joints [rad] and the gripper's opening [m]. Shape (7,)."""
        return self.scene.positions

    def observe(self) -> dict[str, NDArray[np.uint8]]:
        """What the cameras ``side`` and ``wrist`` see now, RGB. Shape (image_size, image_size, 3) each."""
        if self._cameras is None:
            raise ValueError("an episode made with render=False has no cameras")
        return {camera: self._cameras.render(camera) for camera in CAMERAS}

    def advance(self, targets: ArrayLike) -> None:
        """Let one `CONTROL_PERIOD` pass while the arm goes to ``targets``: joints [rad], gripper [m]. Shape (7,)."""
        self.scene.apply(np.asarray(targets, dtype=np.float64), CONTROL_PERIOD)
        self.judge()

    def judge(self) -> None:
        """Take note that a `CONTROL_PERIOD` has passed in the scene, where it passes by other means than `advance`."""
        self._steps += 1
        point = self._tip()
        self._speed = float(np.linalg.norm(point - self._point)) / CONTROL_PERIOD
        self._point = point
        if self.succeeded_at is None and self.holding:
            self.succeeded_at = self.time

    @property
    def success(self) -> bool:
        """Has the task been achieved at any moment?"""
        return self.succeeded_at is not None

    @property
    def holding(self) -> bool:
        """Is the task achieved now?"""
        cube = self.scene.cube_positions()[self.colour]
        if self.task == "reach":
            aim = cube + np.array([0, 0, HOVER])
            return bool(np.linalg.norm(self._point - aim) <= _NEAR and self._speed <= _SLOW)
        touching = self.touching(self.colour)
        if self.task == "lift":
            return touching == 2 and bool(cube[2] >= CUBE_SIZE / 2 + _LIFTED)
        return touching == 0 and self._lies(self.colour) and self._lies(str(self.goal)) and self._is_beside(cube)

    def touching(self, colour: str) -> int:
        """How many fingers touch that cube: 0, 1 or 2."""
        cube = self._bodies[colour]
        with self.scene.lock:
            bodies = self.scene.model.geom_bodyid[self.scene.data.contact.geom]
        pairs = bodies[(bodies == cube).any(axis=1)]
        return sum(bool((pairs == finger).any()) for finger in self._fingers)

    def _is_beside(self, cube: NDArray[np.float64]) -> bool:
        other = self.scene.cube_positions()[str(self.goal)]
        return bool(np.linalg.norm(cube[:2] - other[:2]) <= _FARTHEST_BESIDE)

    def _lies(self, colour: str) -> bool:
        """On the table, upright, at rest."""
        with self.scene.lock:
            body = self.scene.data.body(colour)
            start = self.scene.model.joint(colour).dofadr[0]
            speed = float(np.linalg.norm(self.scene.data.qvel[start : start + 3]))
            height, upright = body.xpos[2], body.xmat[8]
        return bool(abs(height - CUBE_SIZE / 2) <= _LIES and upright >= _UPRIGHT and speed <= _STILL)

    def _tip(self) -> NDArray[np.float64]:
        """The point between the fingers [m]. Shape (3,)."""
        with self.scene.lock:
            return np.array(self.scene.data.site_xpos[self._grasp])

    def close(self) -> None:
        """Free the cameras."""
        if self._cameras is not None:
            self._cameras.close()


def _apart(places: NDArray[np.float64], least: float) -> bool:
    return all(np.linalg.norm(places[i] - places[j]) >= least for i, j in combinations(range(len(places)), 2))


def _roomy(places: NDArray[np.float64]) -> bool:
    """Is the spot beside each cube clear of the other cubes?"""
    for index, place in enumerate(places):
        spot = spot_beside(np.append(place, 0.0))[:2]
        if any(np.linalg.norm(spot - other) < _ROOM for rank, other in enumerate(places) if rank != index):
            return False
    return True
