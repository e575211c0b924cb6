"""What is left of a policy, in indices of what it was cut from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from vla_export.models.blocks import Layer, LayerKind, MemoryLayer
from vla_export.models.flow_model import FlowModel
from vla_export.prune.channels import channels, keep_channels
from vla_export.prune.heads import keep_heads
from vla_export.prune.surgery import keep_memory, remove_layers
from vla_runtime.errors import BadInput


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerStructure(_Part):
    """One layer that is left, and what is left of it; every index counts from 0 in the whole policy.

    layer: which it was in its stack. memory: whether only its keys, values and their norm are left. channels: of its
    MLP, None for all. heads: of its queries, None for all; a key head that nothing else reads goes with the last of
    the query heads that read it.
    """

    layer: int = Field(ge=0)
    kind: LayerKind
    memory: bool = False
    channels: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None


class Structure(_Part):
    """The layers that are left of each stack, in order. A value: what is done to it gives another one."""

    stacks: dict[str, tuple[LayerStructure, ...]]

    @classmethod
    def of(cls, model: FlowModel) -> Structure:
        """All of ``model``, whatever it may have been cut from."""
        return cls(
            stacks={
                name: tuple(
                    LayerStructure(layer=n, kind=layer.kind, memory=isinstance(layer, MemoryLayer))
                    for n, layer in enumerate(stack)
                )
                for name, stack in model.stacks().items()
            }
        )

    def origins(self) -> dict[str, tuple[int, ...]]:
        """By stack, which layer each of those that are left was."""
        return {name: tuple(layer.layer for layer in layers) for name, layers in self.stacks.items()}

    def without(self, removed: Mapping[str, Collection[int]]) -> Structure:
        """After `remove_layers` of the same indices, which count what is left now."""
        return self._changed(
            {
                name: [layer for n, layer in enumerate(self.stacks[name]) if n not in indices]
                for name, indices in removed.items()
            }
        )

    def remembering(self, stack: str, indices: Collection[int]) -> Structure:
        """After `keep_memory` of the same indices, which count what is left now."""
        layers = self.stacks[stack]
        reduced = {"memory": True, "channels": None, "heads": None}
        return self._changed(
            {stack: [layer.model_copy(update=reduced) if n in indices else layer for n, layer in enumerate(layers)]}
        )

    def with_channels(self, stack: str, layer: int, kept: Sequence[int]) -> Structure:
        """After `keep_channels` of the same indices, which count what is left now."""
        return self._narrowed(stack, layer, "channels", kept)

    def with_heads(self, stack: str, layer: int, kept: Sequence[int]) -> Structure:
        """After `keep_heads` of the same indices, which count what is left now."""
        return self._narrowed(stack, layer, "heads", kept)

    def within(self, whole: Structure) -> Structure:
        """The same, in indices of what ``whole`` counts in, where this one's count what is left by ``whole``."""
        return Structure(
            stacks={
                name: tuple(_within(layer, whole.stacks[name][layer.layer]) for layer in layers)
                for name, layers in self.stacks.items()
            }
        )

    def _narrowed(self, stack: str, layer: int, what: str, kept: Sequence[int]) -> Structure:
        layers = list(self.stacks[stack])
        update = {what: _picked(kept, getattr(layers[layer], what))}
        layers[layer] = layers[layer].model_copy(update=update)
        return self._changed({stack: layers})

    def _changed(self, stacks: Mapping[str, Sequence[LayerStructure]]) -> Structure:
        return Structure(stacks=self.stacks | {name: tuple(layers) for name, layers in stacks.items()})


def apply_structure(model: FlowModel, structure: Structure, source: str) -> None:
    """Cut a whole policy down to a structure, in place; its weights may be on the meta device.

    Raises `BadInput`, naming the ``source`` of the structure and leaving the model of no more use, where the policy is
    not the one it was cut from.
    """
    stacks = model.stacks()
    if set(structure.stacks) != set(stacks):
        raise BadInput(f"{source}: the stacks are {_listed(structure.stacks)}; the policy's are {_listed(stacks)}")
    for name, layers in structure.stacks.items():
        _check_layers(source, name, list(stacks[name]), layers)
    removed = {name: set(range(len(stacks[name]))) - set(kept) for name, kept in structure.origins().items()}
    try:
        remove_layers(model, {name: indices for name, indices in removed.items() if indices})
        for name, layers in structure.stacks.items():
            memory = [n for n, layer in enumerate(layers) if layer.memory]
            if memory:
                keep_memory(model, name, memory)
            shared = any(name in group for group in model.coupled())
            for layer, left in zip(stacks[name], layers, strict=True):
                _narrow(layer, left, shared)
    except ValueError as error:
        raise BadInput(f"{source}: {error}") from error


def _check_layers(source: str, stack: str, whole: Sequence[Layer], left: Sequence[LayerStructure]) -> None:
    origins = [layer.layer for layer in left]
    if not origins or origins != sorted(set(origins)) or origins[-1] >= len(whole):
        raise BadInput(f"{source}: {stack} keeps layers {origins}; expected some of {len(whole)}, in ascending order")
    for layer in left:
        if layer.kind != whole[layer.layer].kind:
            raise BadInput(
                f"{source}: layer {layer.layer} of {stack} is a {layer.kind} layer; the policy's is a "
                f"{whole[layer.layer].kind} layer"
            )
        if layer.memory and (layer.channels, layer.heads) != (None, None):
            raise BadInput(f"{source}: layer {layer.layer} of {stack} is memory alone and has no channels or heads")


def _narrow(layer: Layer, left: LayerStructure, shared: bool) -> None:
    if left.channels is not None and len(left.channels) < channels(layer.mlp):
        keep_channels(layer.mlp, left.channels)
    if left.heads is not None and len(left.heads) < layer.attention.heads:
        keep_heads(layer.attention, left.heads, shared)


def _within(layer: LayerStructure, whole: LayerStructure) -> LayerStructure:
    return LayerStructure(
        layer=whole.layer,
        kind=layer.kind,
        memory=layer.memory,
        channels=None if layer.memory else _picked(layer.channels, whole.channels),
        heads=None if layer.memory else _picked(layer.heads, whole.heads),
    )


def _picked(kept: Sequence[int] | None, of: Sequence[int] | None) -> tuple[int, ...] | None:
    """Indices into what ``of`` names, as what it names; None is all of it."""
    if kept is None:
        return None if of is None else tuple(of)
    return tuple(kept) if of is None else tuple(of[n] for n in kept)


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
