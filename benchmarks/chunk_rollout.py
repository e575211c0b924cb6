"""One episode whose arm follows chunks as on the robot, in simulated time, with each chunk answered late."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.chunks.executor import ChunkExecutor
from vla_runtime.chunks.schedule import Schedule
from vla_runtime.chunks.takeover import Takeover
from vla_runtime.sim.episode import Episode
from vla_runtime.sim.judged_scene import JudgedScene

RATE = 100.0  # [Hz], of the targets
INTERVAL = 0.4  # [s], from one observation to the next
_NEAR = 1e-6  # [s], over which velocities just before and just after a takeover are taken

Answer = Callable[[Mapping[str, NDArray[np.uint8]], NDArray[np.float64], ActionChunk | None, float], ActionChunk]
"""Images, state, the chunk that is followed meanwhile, and the time in [s] → the chunk."""


@dataclass(frozen=True, eq=False)
class Border:
    """A chunk that takes over from what was asked. Largest over the six joints.

    at: when, in [s]. off: how far the chunk is from what was asked until then, in [rad]. position_step: how far the
    target jumps, in [rad]; velocity_step: how far its velocity does, in [rad/s].
    """

    at: float
    off: float
    position_step: float
    velocity_step: float


@dataclass(eq=False)
class Rollout:
    """What was asked in an episode.

    targets: at `RATE`, from the first on. Shape (n, 7). begins: when that was, in [s]. chunks: each with when it came.
    """

    succeeded: bool = False
    begins: float = 0.0
    targets: list[NDArray[np.float64]] = field(default_factory=list)
    borders: list[Border] = field(default_factory=list)
    chunks: list[tuple[float, ActionChunk]] = field(default_factory=list)


def roll_out(
    episode: Episode,
    answer: Answer,
    takeover: Takeover,
    latency: float,
    seconds: float,
    scene: JudgedScene | None = None,
) -> Rollout:
    """Run a staged episode for so long. latency: from an observation to its chunk, in [s] of simulated time.

    scene: the episode's, where it is another one than it is by itself.
    """
    executor = ChunkExecutor(max_age=latency + 1.0, takeover=takeover)
    scene = scene or JudgedScene(episode)
    rollout = Rollout()
    coming = deque[tuple[int, ActionChunk]]()
    for tick in range(round(seconds * RATE)):
        now = tick / RATE
        if tick % round(INTERVAL * RATE) == 0:
            former = rollout.chunks[-1][1] if rollout.chunks else None
            coming.append((tick + round(latency * RATE), answer(episode.observe(), episode.state, former, now)))
        if coming and coming[0][0] == tick:
            _take(executor, coming.popleft()[1], now, rollout)
        target = executor.target(now)
        if target is not None:
            rollout.targets.append(target)
        scene.apply(episode.scene.commanded if target is None else target, 1 / RATE)
    rollout.succeeded = episode.success
    return rollout


def _take(executor: ChunkExecutor, chunk: ActionChunk, now: float, rollout: Rollout) -> None:
    earlier, before = executor.target(now - _NEAR), executor.target(now)
    refusal = executor.offer(chunk, now)
    if refusal is not None:
        raise ValueError(refusal)
    after, later = executor.target(now), executor.target(now + _NEAR)
    if earlier is None or before is None or after is None or later is None:
        rollout.begins = now
    else:
        off = Schedule(chunk).position(now) - before
        steps = after - before, ((later - after) - (before - earlier)) / _NEAR
        rollout.borders.append(Border(now, *(float(np.abs(step[:6]).max()) for step in (off, *steps))))
    rollout.chunks.append((now, chunk))
