"""What surrounds the task: lamps, the cameras' exact places, objects that no instruction names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vla_runtime.sim.perturbation import OBJECTS, Perturbation

if TYPE_CHECKING:
    from vla_runtime.sim.scene import Scene

CAMERAS = ("side", "wrist")
_BRIGHTNESS = 0.12  # of the lamps, in every episode
_JITTER = 0.002  # [m], of the cameras
_TURN = 5.0  # [rad/m], how far a camera turns for each metre it moves
_AROUND = np.array([[0.16, 0.40], [-0.20, 0.20]])  # [m], where the objects are put: x and y
_APART = 0.08  # [m], from every cube
_TRIES = 200
_AWAY = np.array([0.0, 0.0, -2.0])  # [m], below the floor


class Surroundings:
    """A scene's lamps, cameras and objects; every arrangement starts from what the file has."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        model = scene.model
        self._lamps = model.light_diffuse.copy()
        self._ambient = model.vis.headlight.ambient.copy()
        self._cameras = [model.camera(name).id for name in CAMERAS]
        self._places = model.cam_pos.copy()
        self._turns = model.cam_quat.copy()
        self._objects = [model.body(f"object{number}") for number in range(1, OBJECTS + 1)]

    def arrange(
        self, rng: np.random.Generator, perturbation: Perturbation, keep: Iterable[NDArray[np.float64]]
    ) -> None:
        """Draw the looks of one episode; objects stay away from the points ``keep`` [m], shape (3,) each."""
        mild = np.random.default_rng(rng.integers(2**63))
        wild = np.random.default_rng(rng.integers(2**63))
        with self._scene.lock:
            self._light(mild, wild, perturbation.light)
            self._move_cameras(mild, wild, perturbation.camera_shift)
            self._put_objects(mild, perturbation.distractors, list(keep))

    def _light(self, mild: np.random.Generator, wild: np.random.Generator, strength: float) -> None:
        brightness = 1 + mild.uniform(-_BRIGHTNESS, _BRIGHTNESS) + wild.choice([-1, 1]) * strength * 2 / 3
        tint = 1 + strength * wild.uniform(-0.2, 0.2, 3)
        model = self._scene.model
        model.light_diffuse[:] = self._lamps * brightness * tint
        model.vis.headlight.ambient[:] = self._ambient * brightness * tint

    def _move_cameras(self, mild: np.random.Generator, wild: np.random.Generator, shift: float) -> None:
        import mujoco

        model = self._scene.model
        for camera in self._cameras:
            move = mild.normal(0, _JITTER / np.sqrt(3), 3) + shift * _direction(wild)
            turn = _TURN * (np.linalg.norm(move) * _direction(mild))
            angle = float(np.linalg.norm(turn))
            rotation = np.append(np.cos(angle / 2), np.sin(angle / 2) * turn / max(angle, 1e-12))
            model.cam_pos[camera] = self._places[camera] + move
            mujoco.mju_mulQuat(model.cam_quat[camera], self._turns[camera], rotation)

    def _put_objects(self, rng: np.random.Generator, count: int, keep: list[NDArray[np.float64]]) -> None:
        shown = max(count, int(rng.integers(2)))
        taken = [point[:2] for point in keep]
        for rank, index in enumerate(rng.permutation(len(self._objects))):
            place = _free(rng, taken)
            at = _AWAY
            if place is not None:
                taken.append(place)
                if rank < shown:
                    at = np.append(place, 0.0)
            self._objects[index].pos[:] = at


def _direction(rng: np.random.Generator) -> NDArray[np.float64]:
    """Shape (3,), of length one."""
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _free(rng: np.random.Generator, taken: list[NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """A place on the table with room around it, shape (2,); ``None`` where the table seems full."""
    for _ in range(_TRIES):
        place = rng.uniform(_AROUND[:, 0], _AROUND[:, 1])
        if all(np.linalg.norm(place - other) >= _APART for other in taken):
            return place
    return None
