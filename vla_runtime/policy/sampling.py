"""From noise to an action chunk: Euler steps along the flow, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.engines.engine import Engine
from vla_runtime.profiling.spans import Spans


def flow_times(flow_steps: int) -> list[tuple[float, float]]:
    """The time of each step and of the next: 1 (noise) down to 0 (actions) in ``flow_steps`` equal steps.

    Computed as ``1 + i · (-1 / flow_steps)``, the way openpi and LeRobot do (``euler_integrate`` in
    lerobot/policies/common/flow_matching.py); adding up ``dt`` would drift away from it.
    """
    dt = -1.0 / flow_steps
    return [(1.0 + step * dt, 1.0 + (step + 1) * dt) for step in range(flow_steps)]


def euler_steps(
    engine: Engine, prefix: Any, noise: NDArray[np.float32], flow_steps: int, spans: Spans
) -> Iterator[NDArray[np.float32]]:
    """The chunk after each step, the last one being the actions. Shapes (1, H, A), normalised."""
    chunk = noise
    for time, next_time in flow_times(flow_steps):
        with spans.span("denoise"):
            chunk = engine.denoise(chunk, time, next_time, prefix)
        yield chunk
