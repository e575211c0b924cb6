"""The tensors a checkpoint holds for a pruned policy: of the layers that are left, what is left of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vla_export.checkpoints.weights import LoadedWeights
from vla_export.models.blocks import Layer
from vla_export.models.flow_model import FlowModel
from vla_export.prune.structure import LayerStructure, Structure

_CHANNEL_ROWS, _CHANNEL_COLUMNS = ("gate_proj", "up_proj", "fc1"), ("down_proj.weight", "fc2.weight")
# Keys and values are cut only where every head has its own: families that share them read them from elsewhere too.
_HEAD_ROWS, _HEAD_COLUMNS = ("q_proj", "k_proj", "v_proj"), ("o_proj.weight",)


def names_before(model: FlowModel, structure: Structure) -> Callable[[str], str]:
    """A tensor's or module's name in a pruned model → what it was called before."""
    before = {path: f"{path.rpartition('.')[0]}.{left.layer}" for path, (_, left) in _layers(model, structure).items()}

    def find(name: str) -> str:
        path = _layer_of(name, before)
        return name if path is None else before[path] + name[len(path) :]

    return find


def stored_before(weights: LoadedWeights, model: FlowModel, structure: Structure) -> Callable[[str], Tensor]:
    """By a pruned tensor's name, what a checkpoint holds for it, in its stored type.

    weights: of the checkpoint that was pruned. structure: what is left of it in ``model``.
    """
    before, layers = names_before(model, structure), _layers(model, structure)

    def read(name: str) -> Tensor:
        tensor = weights.original(before(name))
        path = _layer_of(name, layers)
        if path is None:
            return tensor
        layer, left = layers[path]
        if name.split(".")[-2] in ("k_proj", "v_proj") and len(model.state_dict()[name]) == len(tensor):
            return tensor  # of heads whose keys others read too, none is taken out
        cut = _cut(name, left, layer.attention.head_dim)
        return tensor if cut is None else tensor.index_select(cut[0], torch.tensor(cut[1]))

    return read


def _layers(model: FlowModel, structure: Structure) -> dict[str, tuple[Layer, LayerStructure]]:
    """By path in the model, every layer with what is left of it."""
    paths = {id(module): path for path, module in model.named_modules()}
    return {
        paths[id(layer)]: (layer, left)
        for name, stack in model.stacks().items()
        for layer, left in zip(stack, structure.stacks[name], strict=True)
    }


def _layer_of(name: str, paths: Mapping[str, object]) -> str | None:
    return next((path for path in paths if name == path or name.startswith(f"{path}.")), None)


def _cut(name: str, left: LayerStructure, head_dim: int) -> tuple[int, list[int]] | None:
    """The axis, and the indices along it, that are left of one of a layer's tensors; None for all of it."""
    linear, leaf = name.split(".")[-2:]
    if left.channels is not None:
        if linear in _CHANNEL_ROWS:
            return 0, list(left.channels)
        if f"{linear}.{leaf}" in _CHANNEL_COLUMNS:
            return 1, list(left.channels)
    if left.heads is not None:
        numbers = [head * head_dim + n for head in left.heads for n in range(head_dim)]
        if linear in _HEAD_ROWS:
            return 0, numbers
        if f"{linear}.{leaf}" in _HEAD_COLUMNS:
            return 1, numbers
    return None
