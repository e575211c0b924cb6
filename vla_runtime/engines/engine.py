"""What an inference engine can do, whatever library runs underneath."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """Runs the graphs of one flow-matching policy; tensors are those of `vla_runtime.bundle.manifest.Manifest`.

    A prefix is opaque to the caller: each engine keeps it where it computes (on a GPU it never leaves the device).
    One engine is used by one thread at a time.
    """

    @property
    def name(self) -> str:
        """Engine, device and precision, as a report names them: ``onnxruntime CPU fp32``."""
        ...

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> Any:
        """Observation tensors → prefix (keys and values of every layer, and their mask)."""
        ...

    def denoise(self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: Any) -> NDArray[np.float32]:
        """One Euler step of the flow: chunk (1, H, A) at ``time`` → chunk at ``next_time``."""
        ...

    @property
    def can_guide(self) -> bool:
        """Whether there is a graph behind `guided`."""
        ...

    def guided(
        self,
        chunk: NDArray[np.float32],
        time: float,
        next_time: float,
        prefix: Any,
        previous: NDArray[np.float32],
        weights: NDArray[np.float32],
        beta: float,
    ) -> NDArray[np.float32]:
        """One Euler step that steers towards ``previous`` (1, H, A) where ``weights`` (1, H, 1) are positive.

        Raises `BadInput` where the engine cannot guide.
        """
        ...

    def prefix_arrays(self, prefix: Any) -> dict[str, NDArray[Any]]:
        """The prefix as named host arrays, for parity checks; never called on the control path."""
        ...
