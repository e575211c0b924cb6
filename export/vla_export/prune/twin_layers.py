"""Choosing redundant layers from their similarities (CLP, arXiv 2606.20246)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# On a trained π0 mean, minimum and product chose the same layers; the language model's similarities alone did worst.
COMBINATION = "mean"
_COMBINED: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda similarities: sum(similarities) / len(similarities),
    "minimum": min,
    "product": math.prod,
}


@dataclass(frozen=True)
class Selection:
    """Layers by index from 0. threshold: the lowest similarity τ that had to count as a twin."""

    threshold: float
    removed: tuple[int, ...]
    kept: tuple[int, ...]


def layers_to_remove(fraction: float, depth: int) -> int:
    """How many layers a fraction of ``depth`` is: to the nearest, halves up, at least one and never all."""
    return min(max(math.floor(fraction * depth + 0.5), 1), depth - 1)


def combined(similarities: Mapping[str, Sequence[float]], rule: str = COMBINATION) -> tuple[float, ...]:
    """One similarity per index for stacks that lose the same layers, from those of each stack by its name.

    rule: mean, minimum or product over the stacks, or the name of the one stack that decides.
    """
    if rule in similarities:
        return tuple(similarities[rule])
    by_index = zip(*similarities.values(), strict=True)
    return tuple(_COMBINED[rule](at_index) for at_index in by_index)


def select_twins(similarities: Sequence[float], count: int) -> Selection:
    """Choose ``count`` of the L layers whose similarity (before against after) is given, 1 <= count < L.

    Two neighbours are twins where the hidden states they leave have similarity τ or more, which is the later one's
    entry in ``similarities``; neighbours chained so are a block. A block's first layer is its anchor and stays, the
    others are candidates. τ is lowered until there are ``count`` candidates, and the most similar are removed; of
    equals the earlier one.

    The first layer is always an anchor, however little it does to the embedding: there is no layer before it whose twin
    it could be. None of the published lists removes it.
    """
    depth = len(similarities)
    if not 1 <= count < depth:
        raise ValueError(f"cannot remove {count} of {depth} layers")
    candidates = sorted(range(1, depth), key=lambda layer: (-similarities[layer], layer))
    removed = sorted(candidates[:count])
    return Selection(
        threshold=similarities[candidates[count - 1]],
        removed=tuple(removed),
        kept=tuple(layer for layer in range(depth) if layer not in removed),
    )
