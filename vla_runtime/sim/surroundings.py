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
_MIDDLE = np.array([0.27, 0.0, 0.0])  # [m], of the table: the side camera's arc is around the vertical through it
_ARC = np.pi / 2  # [rad], to the side camera's second place
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
            self._move_cameras(mild, wild, perturbation)
            self._put_objects(mild, perturbation.distractors, list(keep))

    def _light(self, mild: np.random.Generator, wild: np.random.Generator, strength: float) -> None:
        brightness = 1 + mild.uniform(-_BRIGHTNESS, _BRIGHTNESS) + wild.choice([-1, 1]) * strength * 2 / 3
        tint = 1 + strength * wild.uniform(-0.2, 0.2, 3)
        model = self._scene.model
        model.light_diffuse[:] = self._lamps * brightness * tint
        model.vis.headlight.ambient[:] = self._ambient * brightness * tint

    def _move_cameras(self, mild: np.random.Generator, wild: np.random.Generator, perturbation: Perturbation) -> None:
        import mujoco

        model = self._scene.model
        for name, camera in zip(CAMERAS, self._cameras, strict=True):
            place, orientation = self._places[camera], self._turns[camera]
            if name == "side":
                place, orientation = _along_arc(place, orientation, perturbation.side_camera * _ARC)
            move = mild.normal(0, _JITTER / np.sqrt(3), 3) + perturbation.camera_shift * _direction(wild)
            turn = _TURN * (np.linalg.norm(move) * _direction(mild))
            angle = float(np.linalg.norm(turn))
            rotation = np.append(np.cos(angle / 2), np.sin(angle / 2) * turn / max(angle, 1e-12))
            model.cam_pos[camera] = place + move
            mujoco.mju_mulQuat(model.cam_quat[camera], orientation, rotation)

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


def _along_arc(
    place: NDArray[np.float64], orientation: NDArray[np.float64], angle: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A camera, at ``place`` [m] with a quaternion, turned by ``angle`` [rad] about the vertical through the table."""
    import mujoco

    vertical = np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])
    arm, turned = np.zeros(3), np.zeros(4)
    mujoco.mju_rotVecQuat(arm, place - _MIDDLE, vertical)
    mujoco.mju_mulQuat(turned, vertical, orientation)
    return _MIDDLE + arm, turned


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
