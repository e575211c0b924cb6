"""Channels of an MLP: rows of what goes in, columns of what comes out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vla_export.models.blocks import MLP, GatedMLP
from vla_export.prune.narrowing import narrow


def channel_linears(mlp: nn.Module) -> tuple[tuple[str, ...], str]:
    """Names of the linears whose rows are an MLP's channels, and of the one whose columns are; TypeError for no MLP."""
    if isinstance(mlp, GatedMLP):
        return ("gate_proj", "up_proj"), "down_proj"
    if isinstance(mlp, MLP):
        return ("fc1",), "fc2"
    raise TypeError(f"a {type(mlp).__name__} is no MLP")


def channels(mlp: nn.Module) -> int:
    """How many channels an MLP has."""
    return int(getattr(mlp, channel_linears(mlp)[1]).in_features)


@torch.no_grad()
def keep_channels(mlp: nn.Module, kept: Sequence[int]) -> None:
    """Take every other channel out of an MLP, in place: what is left computes as if those taken out were zero.

    kept: channels by index, at least one, in ascending order. Exact branches of the linears stay exact. Raises
    ValueError for indices that are none of its channels or out of order.
    """
    if not kept or list(kept) != sorted(set(kept)) or not 0 <= kept[0] <= kept[-1] < channels(mlp):
        raise ValueError(f"cannot keep {len(kept)} channels of {channels(mlp)}: expected ascending indices")
    inward, outward = channel_linears(mlp)
    for name in inward:
        setattr(mlp, name, narrow(getattr(mlp, name), rows=kept))
    setattr(mlp, outward, narrow(getattr(mlp, outward), columns=kept))
