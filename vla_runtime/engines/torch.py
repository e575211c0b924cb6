"""PyTorch: the reference every other engine is compared with, and the only one that needs the model's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_PRECISIONS = {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16"}


class FlowModel(Protocol):
    """What a model offers to be run as a reference; every tensor is one of `Manifest`'s, under its name."""

    def encode(self, observed: dict[str, Any]) -> dict[str, Any]:
        """Every input of encode by name → every output of encode by name."""
        ...

    def denoise(self, chunk: Any, time: Any, next_time: Any, prefix: dict[str, Any]) -> Any:
        """One Euler step: the chunk at ``next_time``."""
        ...

    def guided(
        self,
        chunk: Any,
        time: Any,
        next_time: Any,
        prefix: dict[str, Any],
        previous: Any,
        weights: Any,
        beta: Any,
    ) -> Any:
        """One Euler step, steered towards ``previous``: the chunk at ``next_time``."""
        ...

    def parameters(self) -> Iterator[Any]:
        """The weights: they tell where and in which precision the model computes."""
        ...


class TorchEngine:
    """A torch model behind the protocol of every engine: numpy in, numpy out, the prefix stays on the device."""

    def __init__(self, model: FlowModel) -> None:
        self._model = model
        weights = next(iter(model.parameters()))
        self._device = weights.device
        self._name = f"torch {self._device.type.upper()} {_PRECISIONS.get(str(weights.dtype), str(weights.dtype))}"

    @property
    def name(self) -> str:
        return self._name

    def encode(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        import torch

        with torch.no_grad():  # in inference mode, no gradient could flow by what it gives
            return self._model.encode({name: self._tensor(array) for name, array in inputs.items()})

    def denoise(
        self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: dict[str, Any]
    ) -> NDArray[np.float32]:
        return self._stepped(self._model.denoise, chunk, time, next_time, prefix)

    @property
    def can_guide(self) -> bool:
        return True

    def guided(
        self,
        chunk: NDArray[np.float32],
        time: float,
        next_time: float,
        prefix: dict[str, Any],
        previous: NDArray[np.float32],
        weights: NDArray[np.float32],
        beta: float,
    ) -> NDArray[np.float32]:
        return self._stepped(self._model.guided, chunk, time, next_time, prefix, previous, weights, beta)

    def prefix_arrays(self, prefix: dict[str, Any]) -> dict[str, NDArray[Any]]:
        import torch

        # numpy has no bfloat16; float32 holds every half value exactly
        return {
            name: (tensor.float() if tensor.dtype is not torch.bool else tensor).cpu().numpy()
            for name, tensor in prefix.items()
        }

    def _stepped(self, step: Callable[..., Any], *values: NDArray[Any] | float | dict[str, Any]) -> NDArray[np.float32]:
        """What a step of the model makes of arrays, of numbers, which become (1,), and of a prefix as it is."""
        import torch

        with torch.no_grad():
            tensors = [value if isinstance(value, dict) else self._tensor(np.atleast_1d(value)) for value in values]
            array: NDArray[np.float32] = step(*tensors).float().cpu().numpy()
            return array

    def _tensor(self, array: NDArray[Any]) -> Any:
        import torch

        single = array.astype(np.float32) if array.dtype == np.float64 else array.copy()
        return torch.from_numpy(single).to(self._device)
