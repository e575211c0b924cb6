"""A policy on the robot: what the cameras and joints say → the actions of the next moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.engines.engine import Engine
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.policy.images import letterbox
from vla_runtime.policy.sampling import euler_steps
from vla_runtime.policy.statistics import normalise, unnormalise
from vla_runtime.policy.tokens import TaskTokenizer
from vla_runtime.profiling.spans import Spans


@dataclass(frozen=True)
class Observation:
    """What the robot perceives at one moment.

    images: by camera name; RGB, uint8. Shapes (h, w, 3), any size.
    state: in the units of the manifest's state space. Shape (n_state,).
    """

    images: Mapping[str, NDArray[Any]]
    state: NDArray[Any]


class Policy:
    """One bundle on one engine. Used by one thread at a time.

    ``spans`` holds how long each stage took: tokens (once per task), images, state, encode, denoise (each flow step),
    actions, and total (one whole `infer`).
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, seed: int = 0, spans: Spans | None = None) -> None:
        self.spans = Spans() if spans is None else spans
        self._manifest = bundle.manifest
        self._engine = engine
        self._tokenizer = TaskTokenizer(bundle.path(self._manifest.tokenizer.file), self._manifest.tokenizer)
        self._tokens: tuple[NDArray[np.int32], NDArray[np.bool_]] | None = None
        self._noise = np.random.default_rng(seed)

    def set_task(self, task: str) -> None:
        """What the arm shall do from now on; raises `BadInput` for a task the policy cannot read, keeping the old."""
        with self.spans.span("tokens"):
            self._tokens = self._tokenizer(task)

    def infer(self, observation: Observation, noise: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
        """One action chunk, in the units of the manifest's action space. Shape (H, n_action).

        noise: where the flow starts; drawn from the seeded generator by default. Shape (1, H, action.padded_to).
        Raises `BadInput` for an observation that is not the one the policy was trained with, or when no task is set;
        `WorkFailed` when the policy's answer is not finite.
        """
        with self.spans.span("total"):
            inputs = self._inputs(observation)
            if noise is None:
                noise = self._noise.standard_normal(self._chunk_shape(), dtype=np.float32)
            elif noise.shape != self._chunk_shape():
                raise BadInput(f"noise must have the shape {self._chunk_shape()}, got {noise.shape}")
            with self.spans.span("encode"):
                prefix = self._engine.encode(inputs)
            *_, chunk = euler_steps(self._engine, prefix, noise, self._manifest.flow_steps, self.spans)
            with self.spans.span("actions"):
                actions = unnormalise(chunk[0], self._manifest.action)
            if not np.isfinite(actions).all():
                raise WorkFailed(f"the policy's actions are not finite ({self._engine.name}): this chunk is dropped")
        return actions

    def _inputs(self, observation: Observation) -> dict[str, NDArray[Any]]:
        if self._tokens is None:
            raise BadInput("the policy has no task: set one first")
        tokens, token_mask = self._tokens
        with self.spans.span("images"):
            images = self._images(observation.images)
        with self.spans.span("state"):
            state = self._state(observation.state)
        return {"images": images, "tokens": tokens, "token_mask": token_mask, "state": state}

    def _images(self, images: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        cameras = self._manifest.cameras
        known = ", ".join(camera.name for camera in cameras)
        for name in images:
            if name not in {camera.name for camera in cameras}:
                raise BadInput(f"camera {name!r} is unknown to this policy: it knows {known}")
        boxed = []
        for camera in cameras:
            if camera.name not in images:
                raise BadInput(f"camera {camera.name!r} has no image: this policy needs {known}")
            try:
                boxed.append(letterbox(images[camera.name], camera.height, camera.width))
            except BadInput as error:
                raise BadInput(f"camera {camera.name!r}: {error}") from error
        return np.stack(boxed)

    def _state(self, state: NDArray[Any]) -> NDArray[np.float32]:
        names = [dimension.name for dimension in self._manifest.state.dimensions]
        if state.shape != (len(names),):
            raise BadInput(f"the state must be {len(names)} numbers ({', '.join(names)}), got shape {state.shape}")
        if not np.isfinite(state).all():
            bad = ", ".join(name for name, value in zip(names, state, strict=True) if not np.isfinite(value))
            raise BadInput(f"the state is not finite: {bad}")
        return normalise(state[None], self._manifest.state)

    def _chunk_shape(self) -> tuple[int, int, int]:
        return (1, self._manifest.horizon, self._manifest.action.padded_to)
