"""Taking layers out of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from vla_export.models.flow_model import FlowModel


def remove_layers(model: FlowModel, removed: Mapping[str, Collection[int]]) -> None:
    """Remove layers, in place, by stack and index from 0; what is left is connected directly.

    A layer keeps its kind wherever it lands. Coupled stacks are read layer by layer and must lose the same indices.

    Raises ValueError, before anything is touched, for an unknown stack or index, for stacks that would come apart, and
    for a stack that would be empty.
    """
    stacks = model.stacks()
    for name, indices in removed.items():
        if name not in stacks:
            raise ValueError(f"no stack {name}; there are {', '.join(stacks)}")
        if not set(indices) < set(range(len(stacks[name]))):
            raise ValueError(f"stack {name}: cannot remove {sorted(indices)} of {len(stacks[name])} layers")
    for group in model.coupled():
        if len({frozenset(removed.get(name, ())) for name in group}) > 1:
            raise ValueError(f"stacks {', '.join(group)} are coupled and must lose the same layers")
    for name, indices in removed.items():
        stack = stacks[name]
        stack.layers = nn.ModuleList(layer for index, layer in enumerate(stack) if index not in indices)
