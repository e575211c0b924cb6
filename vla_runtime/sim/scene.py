"""A PiPER at a table with a red, a green and a blue cube, in MuJoCo."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_runtime.errors import WorkFailed

CUBES = ("red", "green", "blue")
CUBE_SIZE = 0.036  # [m]
HOME = (0.0, 1.24, -1.08, 0.0, 1.15, 0.0, 0.05)  # over the table, looking down, in [rad] and [m]

_FIELD = np.array([[0.20, 0.34], [-0.14, 0.14]])  # [m], where cubes are put: x and y
_APART = 0.075  # [m], between the cubes' centres, so that the fingers fit


class Scene:
    """The simulated world; a `Plant` whose motors are the PiPER's.

    Another thread may render it meanwhile: whoever reads or writes ``data`` holds ``lock``.

    model, data: MuJoCo's, in its units ([m], [rad], [s]).
    """

    def __init__(self, seed: int = 0) -> None:
        import mujoco

        self.model = mujoco.MjModel.from_xml_path(str(Path(__file__).with_name("scene.xml")))
        self.data = mujoco.MjData(self.model)
        self.lock = threading.Lock()
        self._step = mujoco.mj_step
        self._forward = mujoco.mj_forward
        self._reset = mujoco.mj_resetData
        joints = [self.model.joint(f"joint{joint}") for joint in range(1, 7)]
        self._angles = np.array([joint.qposadr[0] for joint in joints])
        self._speeds = np.array([joint.dofadr[0] for joint in joints])
        self._fingers = [self.model.joint(name) for name in ("finger_left", "finger_right")]
        self._opening = self.model.tendon("opening").id
        bad = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
        self._divergence = [int(warning) for warning in bad]
        self._owed = 0.0
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """The arm at `HOME`, at rest, and the cubes where ``seed`` puts them: the same seed, the same places."""
        rng = np.random.default_rng(seed)
        places = _scatter(rng, len(CUBES))
        turns = rng.uniform(-np.pi / 4, np.pi / 4, len(CUBES))
        self.arrange(HOME, dict(zip(CUBES, zip(places, turns, strict=True), strict=True)))

    def arrange(self, pose: ArrayLike, cubes: Mapping[str, tuple[NDArray[np.float64], float]]) -> None:
        """Start anew: the arm at rest at ``pose``, shape (7,), the cubes on the table at (x, y) [m] and turned [rad].

        A cube that is not given lies where the file has it.
        """
        pose = np.asarray(pose, dtype=np.float64)
        with self.lock:
            self._reset(self.model, self.data)
            self._owed = 0.0
            self.data.qpos[self._angles] = pose[:6]
            for finger in self._fingers:
                self.data.qpos[finger.qposadr[0]] = pose[6] / 2
            for cube, ((x, y), turn) in cubes.items():
                start = self.model.joint(cube).qposadr[0]
                self.data.qpos[start : start + 7] = (x, y, CUBE_SIZE / 2, np.cos(turn / 2), 0, 0, np.sin(turn / 2))
            self.data.ctrl[:] = pose
            self._forward(self.model, self.data)

    @property
    def commanded(self) -> NDArray[np.float64]:
        """The motors' last targets. Shape (7,), as `positions`."""
        with self.lock:
            return np.array(self.data.ctrl)

    @property
    def positions(self) -> NDArray[np.float64]:
        """Six joints in [rad], the gripper's opening in [m]. Shape (7,)."""
        with self.lock:
            return np.append(self.data.qpos[self._angles], self.data.ten_length[self._opening])

    @property
    def velocities(self) -> NDArray[np.float64]:
        """Six joints in [rad/s], the gripper's opening in [m/s]. Shape (7,)."""
        with self.lock:
            return np.append(self.data.qvel[self._speeds], self.data.ten_velocity[self._opening])

    def apply(self, targets: NDArray[np.float64], dt: float) -> None:
        """Let ``dt`` [s] pass; the motors' targets go evenly from the last ones to ``targets``. Shape (7,).

        Time passes in whole physics steps; what is left of ``dt`` is owed to the next call. Raises `WorkFailed` when
        the simulation diverges, ``ValueError`` for targets that are not finite.
        """
        if not np.all(np.isfinite(targets)):
            raise ValueError(f"targets {targets} are not finite")
        self._owed += dt
        steps = int(self._owed / self.model.opt.timestep + 1e-9)
        self._owed -= steps * self.model.opt.timestep
        with self.lock:
            start = self.data.ctrl.copy()
            for step in range(1, steps + 1):
                self.data.ctrl[:] = start + (targets - start) * (step / steps)
                self._step(self.model, self.data)
            if self.data.warning.number[self._divergence].any():  # MuJoCo would go on from the model's own start
                raise WorkFailed(f"the simulation diverged at {self.data.time:.3f} s: reset the scene")

    def cube_positions(self) -> dict[str, NDArray[np.float64]]:
        """The centre of every cube by its colour, in the base frame, in [m]. Shape (3,) each."""
        with self.lock:
            return {cube: self.data.body(cube).xpos.copy() for cube in CUBES}


def _scatter(rng: np.random.Generator, count: int) -> list[NDArray[np.float64]]:
    """Places in the field with room between them: drawn one by one, drawn again where too near. Shape (2,) each."""
    places: list[NDArray[np.float64]] = []
    while len(places) < count:
        place = rng.uniform(_FIELD[:, 0], _FIELD[:, 1])
        if all(np.linalg.norm(place - other) >= _APART for other in places):
            places.append(place)
    return places
