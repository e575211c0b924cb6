"""A pilot that knows the play by heart: it answers with what the scripted expert did in the same episode before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vla_runtime.sim.episode import CONTROL_PERIOD, Episode
from vla_runtime.sim.expert import Expert

HORIZON = 16


def rehearse(task: str, seed: int, colour: str | None = None) -> tuple[NDArray[np.float64], Episode]:
    """Every target of the expert, shape (n, 7), and the episode as it ended."""
    episode = Episode(task, seed, colour=colour, render=False)
    expert = Expert(episode)
    targets = []
    for _ in range(round(episode.limit / CONTROL_PERIOD)):
        targets.append(expert.act())
        episode.advance(targets[-1])
    return np.array(targets), episode


class RehearsedPilot:
    """Chunk n is what the expert did from control period 8 n on."""

    horizon, executed, latency = HORIZON, HORIZON // 2, None

    def __init__(self, targets: NDArray[np.float64]) -> None:
        self._targets = targets
        self.tasks: list[str] = []

    def begin(self, instruction: str, seed: int) -> None:
        self.tasks.append(instruction)
        self._asked = 0

    def chunk(self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.float64]) -> NDArray[np.float64]:
        start = self._asked * self.executed
        self._asked += 1
        return self._targets[np.minimum(np.arange(start, start + HORIZON), len(self._targets) - 1)]
