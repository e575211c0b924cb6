"""The scene of an episode whose time passes through an arm's motors, and which is judged all the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.sim.episode import CONTROL_PERIOD, Episode


class JudgedScene:
    """A `Plant`: the episode's scene, judged once every `CONTROL_PERIOD` of simulated time."""

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._unjudged = 0.0

    @property
    def positions(self) -> NDArray[np.float64]:
        return self._episode.scene.positions

    @property
    def velocities(self) -> NDArray[np.float64]:
        return self._episode.scene.velocities

    def apply(self, targets: NDArray[np.float64], dt: float) -> None:
        self._episode.scene.apply(targets, dt)
        self._unjudged += dt
        while self._unjudged >= CONTROL_PERIOD - 1e-9:
            self._unjudged -= CONTROL_PERIOD
            self._episode.judge()
