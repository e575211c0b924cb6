"""The part of an update that every input gets, folded into the weight."""

from __future__ import annotations

from torch import Tensor

from vla_export.adapters.adapter import LinearUpdate
from vla_export.adapters.four_bit import rounded


def fold(weight: Tensor, update: LinearUpdate) -> Tensor:
    """W (out, in) of any floating type → W with everything of ``update`` but its branch, float32; W stays as it is."""
    result = (weight if update.weight is None else update.weight).float()
    if update.four_bit is not None:
        result = rounded(result, update.four_bit)
    if update.rewrite is not None:
        result = update.rewrite.of(result)
    for part in update.fixed:
        result = result.addmm(part.B.float(), part.A.float())
    return result


def folds(update: LinearUpdate) -> bool:
    """Whether `fold` changes anything."""
    return bool(update.fixed) or any(p is not None for p in (update.weight, update.four_bit, update.rewrite))
