"""Taking layers out of a model, whole or all but their keys and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from vla_export.models.blocks import AdaptiveLayer, MemoryLayer
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
    model.remember_depths()


def keep_memory(model: FlowModel, name: str, indices: Collection[int]) -> None:
    """Remove all of some layers but the keys and values that other stacks read, in place, by index from 0.

    What enters such a layer leaves it unchanged. One that is reduced already stays as it is.

    Raises ValueError, before anything is touched, for a stack that no other reads, for an unknown index, and for a
    layer whose norm needs what no other stack has.
    """
    if name not in read_stacks(model):
        raise ValueError(f"no other stack reads {name}; read are {', '.join(read_stacks(model)) or 'none'}")
    stack = model.stacks()[name]
    if not set(indices) <= set(range(len(stack))):
        raise ValueError(f"stack {name}: cannot reduce {sorted(indices)} of {len(stack)} layers")
    layers = list(stack)
    if any(isinstance(layers[n], AdaptiveLayer) or layers[n].kind == "cross" for n in indices):
        raise ValueError(
            f"stack {name}: layers that follow a condition or read another stack have no memory of their own"
        )
    stack.layers = nn.ModuleList(
        MemoryLayer(layer) if n in indices and not isinstance(layer, MemoryLayer) else layer
        for n, layer in enumerate(layers)
    )


def read_stacks(model: FlowModel) -> tuple[str, ...]:
    """The stacks whose keys and values other stacks read: the first of each coupled group."""
    return tuple(group[0] for group in model.coupled())
