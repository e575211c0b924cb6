"""Observation and task → the inputs of the encode graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.manifest import Camera, Space
from vla_runtime.errors import BadInput
from vla_runtime.policy.images import letterbox
from vla_runtime.policy.observation import Observation
from vla_runtime.policy.statistics import normalise
from vla_runtime.policy.tokens import TaskTokenizer
from vla_runtime.policy.units import from_si
from vla_runtime.profiling.spans import Spans


class Preprocessor:
    """What one policy does with every observation; ``spans`` takes the stages tokens, images and state.

    Tokens are made once per task, or, where the state is part of the text, once per observation.
    """

    def __init__(self, cameras: Sequence[Camera], state: Space, tokenizer: TaskTokenizer, spans: Spans) -> None:
        self._cameras = cameras
        self._state_space = state
        self._tokenizer = tokenizer
        self._spans = spans
        self._task: str | None = None
        self._tokens: tuple[NDArray[np.int32], NDArray[np.bool_]] | None = None

    def set_task(self, task: str) -> None:
        """What the arm shall do from now on; raises `BadInput` for a task the policy cannot read, keeping the old."""
        if self._tokenizer.reads_state:
            self._tokenizer.require_fit(task, self._state_space.padded_to)
        else:
            with self._spans.span("tokens"):
                self._tokens = self._tokenizer(task)
        self._task = task

    def __call__(self, observation: Observation) -> dict[str, NDArray[Any]]:
        """Every input of encode by name, as `Manifest` describes them.

        Raises `BadInput` for an observation that is not the one the policy was trained with, or when no task is set.
        """
        if self._task is None:
            raise BadInput("the policy has no task: set one first")
        with self._spans.span("images"):
            images = self._images(observation.images)
        with self._spans.span("state"):
            state = self._state(observation.state)
        if self._tokens is not None:
            tokens, token_mask = self._tokens
            return {"images": images, "tokens": tokens, "token_mask": token_mask, "state": state}
        with self._spans.span("tokens"):
            tokens, token_mask = self._tokenizer(self._task, state[0])
        return {"images": images, "tokens": tokens, "token_mask": token_mask}

    def _images(self, images: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        known = ", ".join(camera.name for camera in self._cameras)
        for name in images:
            if name not in {camera.name for camera in self._cameras}:
                raise BadInput(f"camera {name!r} is unknown to this policy: it knows {known}")
        boxed = []
        for camera in self._cameras:
            if camera.name not in images:
                raise BadInput(f"camera {camera.name!r} has no image: this policy needs {known}")
            shape, image = (camera.height, camera.width), images[camera.name]
            try:
                boxed.append(letterbox(image, *shape, camera.padding, camera.bars, camera.resize))
            except BadInput as error:
                raise BadInput(f"camera {camera.name!r}: {error}") from error
        return np.stack(boxed)

    def _state(self, state: NDArray[Any]) -> NDArray[np.float32]:
        names = [dimension.name for dimension in self._state_space.dimensions]
        if state.shape != (len(names),):
            raise BadInput(f"the state must be {len(names)} numbers ({', '.join(names)}), got shape {state.shape}")
        if not np.isfinite(state).all():
            bad = ", ".join(name for name, value in zip(names, state, strict=True) if not np.isfinite(value))
            raise BadInput(f"the state is not finite: {bad}")
        return normalise(from_si(state, self._state_space)[None], self._state_space)
