"""Heads of an attention: rows of its queries and columns of its output, ``head_dim`` at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vla_export.models.attention import Attention
from vla_export.prune.narrowing import narrow


@torch.no_grad()
def keep_heads(attention: Attention, kept: Sequence[int], shared: bool) -> None:
    """Take every other query head out of an attention, in place: the rest computes as if their outputs were zero.

    Every head that is left reads the key head that it read before. kept: query heads by index, at least one, in
    ascending order. shared: somebody else reads this attention's keys and values too, so that all of those stay;
    otherwise a key head goes with the last query head that read it. Raises ValueError for indices that are none of its
    heads or out of order.
    """
    if not kept or list(kept) != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < attention.heads:
        raise ValueError(f"cannot keep heads {list(kept)} of {attention.heads}: expected ascending indices")
    before = attention.reads()
    read = [before[head] for head in kept]
    keys = [key for key in range(attention.kv_heads) if shared or key in read]
    rows = _numbers(kept, attention.head_dim)
    _narrow(attention, ("q_proj",), rows=rows)
    _narrow(attention, ("o_proj",), columns=rows)
    if len(keys) < attention.kv_heads:
        _narrow(attention, ("k_proj", "v_proj"), rows=_numbers(keys, attention.head_dim))
    attention.groups = tuple(read.count(key) for key in keys)


def _narrow(
    attention: Attention,
    names: tuple[str, ...],
    rows: Sequence[int] | None = None,
    columns: Sequence[int] | None = None,
) -> None:
    for name in names:
        setattr(attention, name, narrow(getattr(attention, name), rows, columns))


def _numbers(heads: Sequence[int], head_dim: int) -> list[int]:
    return [head * head_dim + n for head in heads for n in range(head_dim)]
