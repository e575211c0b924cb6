"""PyTorch: the reference every other engine is compared with, and the only one that needs the model's own code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

        with torch.inference_mode():
            return self._model.encode({name: self._tensor(array) for name, array in inputs.items()})

    def denoise(
        self, chunk: NDArray[np.float32], time: float, next_time: float, prefix: dict[str, Any]
    ) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            result = self._model.denoise(
                self._tensor(chunk),
                self._tensor(np.array([time], np.float32)),
                self._tensor(np.array([next_time], np.float32)),
                prefix,
            )
            array: NDArray[np.float32] = result.float().cpu().numpy()
            return array

    def prefix_arrays(self, prefix: dict[str, Any]) -> dict[str, NDArray[Any]]:
        import torch

        # numpy has no bfloat16; float32 holds every half value exactly
        return {
            name: (tensor.float() if tensor.dtype is not torch.bool else tensor).cpu().numpy()
            for name, tensor in prefix.items()
        }

    def _tensor(self, array: NDArray[Any]) -> Any:
        import torch

        return torch.from_numpy(np.array(array)).to(self._device)
