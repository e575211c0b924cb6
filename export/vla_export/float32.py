"""Float32 arithmetic from weights that are stored in half precision, without a float32 copy of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

_ROWS = torch.ops.aten.embedding.default


class Float32Weight(Tensor):
    """A weight that is float32 to whoever computes with it, and stored in another type, or on disk.

    Every operation reads the stored value and turns it into float32 for that one operation. Of an embedding, only the
    rows that are looked up are read.
    """

    _read: Callable[[], Tensor]

    @staticmethod
    def __new__(cls, size: torch.Size, read: Callable[[], Tensor]) -> Float32Weight:
        """read: gives the stored value, of that size and of any floating type."""
        weight: Float32Weight = Tensor._make_wrapper_subclass(cls, size, dtype=torch.float32)
        weight._read = read
        return weight

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch declares the stub that switches it off
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is torch.ops.aten.detach.default:
            return cls(args[0].shape, args[0]._read)
        convert = _stored if function is _ROWS else _float32
        found = function(*tree_map(convert, args), **tree_map(convert, kwargs or {}))
        return found.float() if function is _ROWS else found


def _stored(value: Any) -> Any:
    return value._read() if isinstance(value, Float32Weight) else value


def _float32(value: Any) -> Any:
    return value._read().float() if isinstance(value, Float32Weight) else value


@contextmanager
def float32(model: nn.Module, original: Callable[[str], Tensor] | None = None) -> Iterator[None]:
    """Within, ``model`` computes in float32 from its float16 weights; for a float32 model nothing changes.

    original: by a parameter's name, the value to compute with in place of the model's own float16 one: what a
    checkpoint held before it was rounded.
    """
    halved = [
        (module, name, parameter, f"{path}.{name}".removeprefix("."))
        for path, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dtype is torch.float16
    ]
    try:
        for module, name, parameter, full_name in halved:
            weight = Float32Weight(parameter.shape, _reader(parameter, full_name, original))
            setattr(module, name, nn.Parameter(weight, requires_grad=False))
        yield
    finally:
        for module, name, parameter, _ in halved:
            setattr(module, name, parameter)


def _reader(parameter: Tensor, name: str, original: Callable[[str], Tensor] | None) -> Callable[[], Tensor]:
    return (lambda: parameter) if original is None else (lambda: original(name))
