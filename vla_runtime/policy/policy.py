"""A policy on the robot: what the cameras and joints say → the actions of the next moments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.engines.engine import Engine
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.policy.actions import absolute_actions, policy_actions
from vla_runtime.policy.observation import Observation
from vla_runtime.policy.preprocessing import Preprocessor
from vla_runtime.policy.rtc import PreviousChunk, Rtc, Target, target
from vla_runtime.policy.sampling import continuing_steps, euler_steps
from vla_runtime.policy.tokens import TaskTokenizer
from vla_runtime.profiling.spans import Spans

__all__ = ["Observation", "Policy"]


class Policy:
    """One bundle on one engine. Used by one thread at a time.

    It takes and gives SI units; the policy's own units are known in here alone.

    ``spans`` holds how long each stage took: tokens (once per task, or once per observation where the state is part of
    the text), images, state, encode, denoise (each flow step), actions, and total (one whole `infer`).
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, *, seed: int = 0, spans: Spans | None = None, rtc: Rtc | None = None
    ) -> None:
        """rtc: how a chunk continues the former one where `infer` is given it; None where it never is.

        Raises `BadInput` where the engine has no graph for the form that is asked for.
        """
        if rtc is not None and rtc.form == "guided" and not engine.can_guide:
            raise BadInput(
                f"{engine.name} cannot do guided real-time chunking: export the bundle with --rtc, or choose the form "
                "identity or hard"
            )
        self.spans = Spans() if spans is None else spans
        self._manifest = manifest = bundle.manifest
        self._engine = engine
        tokenizer = TaskTokenizer(bundle.path(manifest.tokenizer.file), manifest.tokenizer)
        self._preprocessor = Preprocessor(manifest.cameras, manifest.state, tokenizer, self.spans)
        self._rtc = rtc
        self._noise = np.random.default_rng(seed)

    def set_task(self, task: str) -> None:
        """What the arm shall do from now on; raises `BadInput` for a task the policy cannot read, keeping the old."""
        self._preprocessor.set_task(task)

    def infer(
        self,
        observation: Observation,
        noise: NDArray[np.float32] | None = None,
        previous: PreviousChunk | None = None,
    ) -> NDArray[np.float64]:
        """One action chunk: absolute targets in SI units, in the order of the action space. Shape (H, n_action).

        noise: where the flow starts; drawn from the seeded generator by default. Shape (1, H, action.padded_to).
        previous: what the arm follows meanwhile, to be continued; None for a chunk that stands alone. With the form
        ``hard`` its frozen actions come back bit for bit.

        Raises `BadInput` for an observation that is not the one the policy was trained with, when no task is set, and
        for a ``previous`` without `Rtc` or of another action space; `WorkFailed` when the policy's answer is not
        finite.
        """
        with self.spans.span("total"):
            inputs = self._preprocessor(observation)
            if noise is None:
                noise = self._noise.standard_normal(self._chunk_shape(), dtype=np.float32)
            elif noise.shape != self._chunk_shape():
                raise BadInput(f"noise must have the shape {self._chunk_shape()}, got {noise.shape}")
            former = None if previous is None else self._target(previous, observation)
            with self.spans.span("encode"):
                prefix = self._engine.encode(inputs)
            *_, chunk = self._steps(prefix, noise, former)
            with self.spans.span("actions"):
                actions = absolute_actions(chunk[0], observation.state, self._manifest.state, self._manifest.action)
            if previous is not None and self._rtc is not None and self._rtc.form == "hard":
                same = min(previous.frozen, len(previous.actions), len(actions))
                actions[:same] = previous.actions[:same]
            if not np.isfinite(actions).all():
                raise WorkFailed(f"the policy's actions are not finite ({self._engine.name}): this chunk is dropped")
        return actions

    def _steps(self, prefix: Any, noise: NDArray[np.float32], former: Target | None) -> Iterator[NDArray[np.float32]]:
        flow = (self._engine, prefix, noise, self._manifest.flow_steps, self.spans)
        if former is None or self._rtc is None:
            return euler_steps(*flow)
        return continuing_steps(*flow, self._rtc, former)

    def _target(self, previous: PreviousChunk, observation: Observation) -> Target:
        """The former chunk in the policy's own numbers, relative ones counted from this observation's state."""
        if self._rtc is None:
            raise BadInput("this policy was opened without real-time chunking: it cannot continue a former chunk")
        space, n = self._manifest.action, previous.actions.shape[1]
        if n != len(space.dimensions):
            raise BadInput(f"the former chunk has {n} numbers per action, the policy's have {len(space.dimensions)}")
        actions = policy_actions(previous.actions, observation.state, self._manifest.state, space)
        return target(actions, previous.frozen, self._manifest.horizon, self._rtc.schedule)

    def _chunk_shape(self) -> tuple[int, int, int]:
        return (1, self._manifest.horizon, self._manifest.action.padded_to)
