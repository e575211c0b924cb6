"""What every inference engine can do, whatever library runs underneath."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """Runs the two graphs of one flow-matching policy; tensors are those of `vla_runtime.bundle.manifest.Manifest`.

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

    def prefix_arrays(self, prefix: Any) -> dict[str, NDArray[Any]]:
        """The prefix as named host arrays, for parity checks; never called on the control path."""
        ...
