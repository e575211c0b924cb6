"""An engine whose policy swings the arm to and fro, and everything that can be wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.manifest import Manifest
from vla_runtime.engines.engine import Engine
from vla_runtime.policy.statistics import renormalise

CENTRE = np.array([0.1, 1.0, -1.0, 0.2, 0.3, -0.1, 0.03])
SWING = np.array([0.5, 0.1, 0.1, 0.2, 0.1, 0.3, 0.01])  # [rad], [m]
PERIOD = 4.0  # [s]
BEGIN = 1000.3  # [s], when it is at one end


class SwingingEngine(Engine):
    """Whatever it sees, its chunk is a cosine of the time of the observation, which it is told.

    observed: the time of the observation to answer, in [s].
    work: called for each inference, before it answers; it may take time, or fail.
    altered: what becomes of its actions (H, 7) in [rad] and [m].
    """

    name = "swinging"
    can_guide = False

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.observed = 0.0
        self.work: Callable[[], None] = _nothing
        self.altered: Callable[[NDArray[np.float64]], NDArray[np.float64]] = _unaltered

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        self.work()
        due = self.observed + np.arange(self._manifest.horizon) / self._manifest.rate
        actions = CENTRE - SWING * np.cos(2 * np.pi * (due - BEGIN) / PERIOD)[:, None]
        return renormalise(self.altered(actions), self._manifest.action)[None]

    def denoise(
        self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        return prefix

    def guided(self, *_: Any, **__: Any) -> NDArray[np.float32]:
        raise NotImplementedError

    def prefix_arrays(self, prefix: Any) -> dict[str, NDArray[Any]]:
        return {"chunk": prefix}


def _nothing() -> None: ...


def _unaltered(actions: NDArray[np.float64]) -> NDArray[np.float64]:
    return actions
