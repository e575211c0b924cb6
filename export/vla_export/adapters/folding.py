"""The part of an update that every input gets, folded into the weight."""

from __future__ import annotations

import torch
from torch import Tensor

from vla_export.adapters.adapter import LinearUpdate
from vla_export.adapters.four_bit import rounded


def fold(weight: Tensor, update: LinearUpdate) -> Tensor:
    """W (out, in) of any floating type → W with everything of ``update`` but its branch, float32; W stays as it is."""
    result = (weight if update.weight is None else update.weight).float()
    if update.four_bit is not None:
        result = rounded(result, update.four_bit)
    if update.principal:
        result = result - _principal(result, update.principal)
    for part in update.fixed:
        result = result.addmm(part.B.float(), part.A.float())
    if update.magnitude is not None:
        result = result * (update.magnitude / torch.linalg.vector_norm(result, dim=1))[:, None]
    return result


def folds(update: LinearUpdate) -> bool:
    """Whether `fold` changes anything."""
    return bool(
        update.fixed
        or update.principal
        or any(p is not None for p in (update.weight, update.four_bit, update.magnitude))
    )


def _principal(weight: Tensor, rank: int) -> Tensor:
    """The best approximation of that rank: what PiSSA takes out of a weight and trains in its place."""
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    return (U[:, :rank] * S[:rank]) @ Vh[:rank]
