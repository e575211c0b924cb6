"""Choosing the units that go by one ranking of all layers (arXiv 2606.31382), and widths that hardware likes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Direction = Literal["highest", "lowest"]


@dataclass(frozen=True)
class Choice:
    """kept: units by layer, in ascending order. threshold: the score of the last unit in the ranking that was to go,
    None where none was."""

    kept: tuple[tuple[int, ...], ...]
    threshold: float | None


def choose(scores: Sequence[Tensor], ratio: float, direction: Direction, multiple: int) -> Choice:
    """Choose the units to keep where ``ratio`` of all units of all layers go, those with the highest scores first.

    scores: by layer, (units,); a layer may have none. direction: highest, or lowest first. Of equal scores the one of
    the earlier layer goes first, in a layer the one of lower index. Their number is rounded to the nearest, halves up.

    A layer then keeps a ``multiple`` of units, at least one: what it would keep is rounded up, but never beyond what it
    has, and the last to go come back first.
    """
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"cannot remove {ratio} of the units: expected a ratio between 0 and 1")
    together = torch.cat(tuple(scores))
    order = torch.argsort(together, descending=direction == "highest", stable=True)
    count = math.floor(ratio * len(order) + 0.5)
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order))
    kept = []
    for own in places.split([len(layer) for layer in scores]):
        staying = int((own >= count).sum())
        width = min(max(math.ceil(staying / multiple), 1) * multiple, len(own))
        kept.append(tuple(sorted(torch.argsort(own, descending=True)[:width].tolist())))
    return Choice(tuple(kept), float(together[order[count - 1]]) if count else None)
