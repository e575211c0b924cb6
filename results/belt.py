"""A moving belt under the cubes: what was seen a moment ago is no longer where it was."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.sim.episode import Episode
from vla_runtime.sim.judged_scene import JudgedScene
from vla_runtime.sim.scene import CUBE_SIZE

_ON_THE_BELT = CUBE_SIZE / 2 + 0.004  # [m], the highest centre of a cube that lies


class Belt(JudgedScene):
    """The scene of an episode whose cubes travel along y, at one pace, from the named cube's side to the other.

    A cube travels while it lies and no finger touches it: a belt drags a cube that is held no more than a table does.
    The cubes keep their distances from each other, and nothing on the belt turns.
    """

    def __init__(self, episode: Episode, speed: float) -> None:
        """speed: of the belt, in [m/s]."""
        super().__init__(episode)
        self._belt, self._speed = episode, -np.copysign(speed, episode.scene.cube_positions()[episode.colour][1])

    def apply(self, targets: NDArray[np.float64], dt: float) -> None:
        self._carry(dt)
        super().apply(targets, dt)

    def _carry(self, dt: float) -> None:
        scene = self._belt.scene
        lying = [colour for colour, place in scene.cube_positions().items() if place[2] <= _ON_THE_BELT]
        free = [colour for colour in lying if not self._belt.touching(colour)]
        with scene.lock:
            for colour in free:
                scene.data.qpos[scene.model.joint(colour).qposadr[0] + 1] += self._speed * dt
