"""Cutting a training project's own policy to a structure file, so that a pruned checkpoint can be finetuned there.

It needs torch and nothing else, and is meant to be run where the project runs::

    policy = SmolVLAPolicy(config)  # of the pruned checkpoint's config.json, which is the whole policy's
    cut_policy(policy, Path("pruned"))
    policy.load_state_dict(load_file("pruned/model.safetensors"))

What the project then saves has the pruned checkpoint's tensors. With structure.json beside it, it can be exported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

_MEMORY = ("self_attn.k_proj", "self_attn.v_proj", "input_layernorm")  # what a layer of memory alone keeps
_CHANNEL_ROWS, _CHANNEL_COLUMNS = ("mlp.gate_proj", "mlp.up_proj", "mlp.fc1"), ("mlp.down_proj", "mlp.fc2")


def cut_policy(policy: nn.Module, checkpoint: Path) -> None:
    """Cut a whole policy, in place, to what the structure.json of a pruned checkpoint says is left of it.

    Layers and channels go. Of a layer that is memory alone, all else stays where it was as zeros that are no
    parameters: they are neither trained nor saved, and the layer adds nothing.

    Raises ValueError for what the project's own code cannot run: layers without some of their heads, and a SmolVLA
    whose layers no longer alternate, as LeRobot goes by their places.
    """
    file = json.loads((checkpoint / "structure.json").read_text(encoding="utf-8"))
    stacks: Mapping[str, Sequence[Mapping[str, Any]]] = file["structure"]["stacks"]
    for stack, path in file["layer_lists"].items():
        for layer in stacks[stack]:
            if layer["heads"] is not None:
                raise ValueError(
                    f"layer {layer['layer']} of {stack} has lost heads, which {file['family']}'s code needs"
                )
        owner: Any = policy.get_submodule(path.rpartition(".")[0])
        owner.layers = _left(policy.get_submodule(path), stacks[stack])
        if hasattr(owner, "config"):
            owner.config.num_hidden_layers = len(stacks[stack])
    counting: list[Any] = [module for module in policy.modules() if hasattr(module, "num_vlm_layers")]
    for module in counting:  # LeRobot's SmolVLMWithExpertModel
        _check_alternation(module, [layer["kind"] for layer in stacks["expert"]])
        module.num_vlm_layers, module.num_expert_layers = len(stacks["language"]), len(stacks["expert"])


def _left(layers: nn.Module, structure: Sequence[Mapping[str, Any]]) -> nn.ModuleList:
    assert isinstance(layers, nn.ModuleList)
    left = nn.ModuleList()
    for layer in structure:
        whole = layers[layer["layer"]]
        if hasattr(whole.self_attn, "layer_idx"):
            whole.self_attn.layer_idx = len(left)
        if layer["memory"]:
            _silence(whole)
        if layer["channels"] is not None:
            _narrow(whole, torch.tensor(layer["channels"]))
        left.append(whole)
    return left


def _silence(layer: nn.Module) -> None:
    for path, module in layer.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if path not in _MEMORY:
                delattr(module, name)
                module.register_buffer(name, torch.zeros_like(parameter), persistent=False)


def _narrow(layer: nn.Module, channels: torch.Tensor) -> None:
    for path, linear in layer.named_modules():
        if path in _CHANNEL_ROWS or path in _CHANNEL_COLUMNS:
            assert isinstance(linear, nn.Linear)
            axis = 0 if path in _CHANNEL_ROWS else 1
            for name, parameter in list(linear.named_parameters()):
                if axis == 0 or name == "weight":
                    setattr(linear, name, nn.Parameter(parameter.detach().index_select(axis, channels)))
            linear.out_features, linear.in_features = linear.weight.shape


def _check_alternation(model: Any, kinds: Sequence[str]) -> None:
    every = model.self_attn_every_n_layers
    cross = "cross" in model.attention_mode
    places = ["joint" if not cross or (every > 0 and n % every == 0) else "cross" for n in range(len(kinds))]
    if list(kinds) != places:
        raise ValueError(
            f"the expert's layers are {', '.join(kinds)}; LeRobot goes by their places and would run "
            f"{', '.join(places)}: prune pairs of layers to finetune there"
        )
