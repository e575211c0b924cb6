"""From noise to an action chunk: Euler steps along the flow, in order, free or continuing a former chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.engines.engine import Engine
from vla_runtime.policy.rtc import Rtc, Target, strength
from vla_runtime.profiling.spans import Spans

# Rounding may leave the last time this far from 0.
_END = 1e-9
# A chunk (1, H, A), its time and the next → the chunk at the next.
_Step = Callable[[NDArray[np.float32], float, float], NDArray[np.float32]]


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
    return _steps(lambda chunk, t, next_t: engine.denoise(chunk, t, next_t, prefix), noise, flow_steps, spans)


def continuing_steps(
    engine: Engine, prefix: Any, noise: NDArray[np.float32], flow_steps: int, spans: Spans, rtc: Rtc, former: Target
) -> Iterator[NDArray[np.float32]]:
    """As `euler_steps`, of a chunk that goes on where the former one will be.

    With the form ``hard``, the frozen actions of the last chunk are exactly the former's.
    """

    def step(chunk: NDArray[np.float32], time: float, next_time: float) -> NDArray[np.float32]:
        if rtc.form == "guided":
            return engine.guided(chunk, time, next_time, prefix, former.chunk, former.weights, rtc.beta)
        free = engine.denoise(chunk, time, next_time, prefix)
        if rtc.form == "identity":
            return _pulled(chunk, free, time, next_time, former, rtc.beta)
        return _inpainted(free, next_time, former, noise)

    return _steps(step, noise, flow_steps, spans)


def _steps(step: _Step, noise: NDArray[np.float32], flow_steps: int, spans: Spans) -> Iterator[NDArray[np.float32]]:
    chunk = noise
    for time, next_time in flow_times(flow_steps):
        with spans.span("denoise"):
            chunk = step(chunk, time, next_time)
        yield chunk


def _pulled(
    chunk: NDArray[np.float32], free: NDArray[np.float32], time: float, next_time: float, former: Target, beta: float
) -> NDArray[np.float32]:
    """The Euler step from ``chunk`` to ``free`` plus the pull w ⊙ (former − x̂), x̂ = x − t v of the step's velocity v.

    It is LeRobot's (``RTCProcessor.denoise_step`` in lerobot/policies/rtc/modeling_rtc.py), which differentiates x̂ with
    v held constant.
    """
    dt = np.float32(next_time) - np.float32(time)
    clean = chunk - np.float32(time) * ((free - chunk) / dt)
    return free - dt * np.float32(strength(time, beta)) * (former.weights * (former.chunk - clean))


def _inpainted(
    free: NDArray[np.float32], next_time: float, former: Target, noise: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The frozen actions as the former's at the noise of the next step, t · noise + (1 − t) · former, the others free.

    The first step needs none of it, as it starts from noise.
    """
    t = np.float32(next_time if next_time > _END else 0.0)
    frozen = t * noise[:, : former.frozen] + (1 - t) * former.chunk[:, : former.frozen]
    return np.concatenate((frozen, free[:, former.frozen :]), axis=1)
