"""The policy in a benchmark's episodes, with or without real-time chunking, on one engine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.engines.engine import Engine
from vla_runtime.policy.latency_estimate import LatencyEstimate
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime.policy.rtc import PreviousChunk, Rtc, still_to_come


class ChunkPilot:
    """Answers the observations of one episode after the other."""

    def __init__(self, bundle: Bundle, engine: Engine, rtc: Rtc | None) -> None:
        """Raises `BadInput` where the engine cannot do the asked form of real-time chunking."""
        manifest = bundle.manifest
        self._policy = Policy(bundle, engine, rtc=rtc)
        self._continues = rtc is not None
        self._period = 1.0 / manifest.rate
        self._noise_shape = (1, manifest.horizon, manifest.action.padded_to)
        self._noise = np.random.default_rng(0)
        self._latency = LatencyEstimate(self._period)

    def begin(self, instruction: str, seed: int, latency: float) -> None:
        """Start an episode whose chunks come ``latency`` [s] after their observation; noise follows ``seed``."""
        self._policy.set_task(instruction)
        self._noise = np.random.default_rng(seed)
        self._latency = LatencyEstimate(self._period)
        self._latency.add(latency)

    def answer(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        state: NDArray[np.float64],
        former: ActionChunk | None,
        now: float,
    ) -> ActionChunk:
        """The chunk for what is observed at ``now`` [s]; ``former`` is followed until it comes."""
        previous = None
        if self._continues and former is not None:
            left = still_to_come(former.positions, self._period, now - former.stamp)
            previous = PreviousChunk(left, self._latency.frozen or 0)
        noise = self._noise.standard_normal(self._noise_shape, dtype=np.float32)
        actions = self._policy.infer(Observation(images, state), noise, previous)
        return ActionChunk(now, np.arange(len(actions), dtype=np.float64) * self._period, actions)
