"""Checks that every reader of adapters makes of the tensors it finds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from vla_export.adapters.adapter import Branch, LinearUpdate, LowRank
from vla_runtime.errors import BadInput


def check_tensor(path: Path, name: str, tensor: Tensor, shape: tuple[int | str, ...], why: str = "") -> Tensor:
    """``tensor``, of the expected shape, where a word stands for any size, and finite.

    Raises `BadInput` naming the tensor, its shape and the one expected; ``why`` says where that comes from.
    """
    fits = tensor.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == size for wanted, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        expected = ", ".join(map(str, shape))
        raise BadInput(
            f"adapter {path}: {name} has shape {tuple(tensor.shape)}; expected ({expected}){f', {why}' if why else ''}"
        )
    if not tensor.is_floating_point() or not torch.stack(tensor.aminmax()).isfinite().all():
        raise BadInput(f"adapter {path}: {name} is not all finite numbers; the training run diverged")
    return tensor


def check_effect(path: Path, updates: Iterable[LinearUpdate]) -> None:
    """Raises `BadInput` where an adapter does nothing to any linear, as one that was never trained."""
    if not any(_adds(part) for update in updates for part in (*update.fixed, update.branch) if part is not None):
        raise BadInput(f"adapter {path}: changes nothing, every B (or A, or scale) is zero; give the trained adapter")


def _adds(part: LowRank | Branch) -> bool:
    return bool(part.A.any() and part.B.any())
