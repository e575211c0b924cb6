"""A policy on the robot: what the cameras and joints say → the actions of the next moments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.engines.engine import Engine
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.policy.actions import absolute_actions
from vla_runtime.policy.observation import Observation
from vla_runtime.policy.preprocessing import Preprocessor
from vla_runtime.policy.sampling import euler_steps
from vla_runtime.policy.tokens import TaskTokenizer
from vla_runtime.profiling.spans import Spans

__all__ = ["Observation", "Policy"]


class Policy:
    """One bundle on one engine. Used by one thread at a time.

    It takes and gives SI units; the policy's own units are known in here alone.

    ``spans`` holds how long each stage took: tokens (once per task, or once per observation where the state is part of
    the text), images, state, encode, denoise (each flow step), actions, and total (one whole `infer`).
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, seed: int = 0, spans: Spans | None = None) -> None:
        self.spans = Spans() if spans is None else spans
        self._manifest = manifest = bundle.manifest
        self._engine = engine
        tokenizer = TaskTokenizer(bundle.path(manifest.tokenizer.file), manifest.tokenizer)
        self._preprocessor = Preprocessor(manifest.cameras, manifest.state, tokenizer, self.spans)
        self._noise = np.random.default_rng(seed)

    def set_task(self, task: str) -> None:
        """What the arm shall do from now on; raises `BadInput` for a task the policy cannot read, keeping the old."""
        self._preprocessor.set_task(task)

    def infer(self, observation: Observation, noise: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
        """One action chunk: absolute targets in SI units, in the order of the action space. Shape (H, n_action).

        noise: where the flow starts; drawn from the seeded generator by default. Shape (1, H, action.padded_to).
        Raises `BadInput` for an observation that is not the one the policy was trained with, or when no task is set;
        `WorkFailed` when the policy's answer is not finite.
        """
        with self.spans.span("total"):
            inputs = self._preprocessor(observation)
            if noise is None:
                noise = self._noise.standard_normal(self._chunk_shape(), dtype=np.float32)
            elif noise.shape != self._chunk_shape():
                raise BadInput(f"noise must have the shape {self._chunk_shape()}, got {noise.shape}")
            with self.spans.span("encode"):
                prefix = self._engine.encode(inputs)
            *_, chunk = euler_steps(self._engine, prefix, noise, self._manifest.flow_steps, self.spans)
            with self.spans.span("actions"):
                actions = absolute_actions(chunk[0], observation.state, self._manifest.state, self._manifest.action)
            if not np.isfinite(actions).all():
                raise WorkFailed(f"the policy's actions are not finite ({self._engine.name}): this chunk is dropped")
        return actions

    def _chunk_shape(self) -> tuple[int, int, int]:
        return (1, self._manifest.horizon, self._manifest.action.padded_to)
