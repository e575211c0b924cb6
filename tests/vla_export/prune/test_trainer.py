"""Cutting another project's policy: what it can run is cut, what it cannot is refused; LeRobot's are in the goldens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vla_export.prune.trainer import cut_policy


class Attending(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.layer_idx = index
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(4, 4))


class Layer(nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn, self.mlp = nn.LayerNorm(4), Attending(index), nn.Module()
        self.mlp.up_proj, self.mlp.down_proj = nn.Linear(4, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn.o_proj(self.self_attn.q_proj(self.input_layernorm(x)))
        return x + self.mlp.down_proj(self.mlp.up_proj(x))


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(n) for n in range(4))
        self.attention_mode, self.self_attn_every_n_layers, self.num_vlm_layers = "cross_attn", 2, 4


def kept(*layers: int, **changed: object) -> list[dict[str, object]]:
    plain = {"kind": "self", "memory": False, "channels": None, "heads": None}
    return [{"layer": layer, **plain, **changed} for layer in layers]


def written(directory: Path, language: list[dict[str, Any]], kinds: list[str]) -> Path:
    """Of a policy in a policy, as LeRobot's are: its lists of layers have a path."""
    expert = [{**layer, "kind": kind} for layer, kind in zip(kept(*range(len(kinds))), kinds, strict=True)]
    content = {
        "family": "toy",
        "layer_lists": {"language": "model.layers"},
        "structure": {"stacks": {"language": language, "expert": expert}},
    }
    (directory / "structure.json").write_text(json.dumps(content))
    return directory


def test_layers_channels_and_memory(tmp_path: Path) -> None:
    policy = nn.ModuleDict({"model": Policy()})
    whole = list(policy["model"].layers)
    language = kept(0) + kept(2, memory=True) + kept(3, channels=[1, 4])
    expected = whole[3].mlp.down_proj.weight[:, [1, 4]], whole[3].mlp.up_proj.bias[[1, 4]]
    cut_policy(policy, written(tmp_path, language, ["joint", "cross", "joint"]))
    model = policy["model"]
    assert list(model.layers) == [whole[0], whole[2], whole[3]]
    assert [layer.self_attn.layer_idx for layer in model.layers] == [0, 1, 2]
    assert (model.num_vlm_layers, model.num_expert_layers) == (3, 3)
    assert torch.equal(whole[3].mlp.down_proj.weight, expected[0])
    assert torch.equal(whole[3].mlp.up_proj.bias, expected[1])
    x = torch.randn(3, 4)
    assert whole[3](x).shape == (3, 4)
    # The layer of memory adds nothing, and of it nothing else is trained or saved.
    assert torch.equal(whole[2](x), x)
    names = {"input_layernorm.weight", "input_layernorm.bias"}
    names |= {f"self_attn.{linear}.{leaf}" for linear in ("k_proj", "v_proj") for leaf in ("weight", "bias")}
    assert set(whole[2].state_dict()) == {name for name, _ in whole[2].named_parameters()} == names


def test_layers_without_some_heads_are_refused(tmp_path: Path) -> None:
    policy = nn.ModuleDict({"model": Policy()})
    with pytest.raises(ValueError, match="layer 1 of language has lost heads"):
        cut_policy(policy, written(tmp_path, kept(0) + kept(1, heads=[0]), ["joint", "cross"]))


def test_layers_that_no_longer_alternate_are_refused(tmp_path: Path) -> None:
    policy = nn.ModuleDict({"model": Policy()})
    with pytest.raises(ValueError, match="the expert's layers are joint, joint; LeRobot .* would run joint, cross"):
        cut_policy(policy, written(tmp_path, kept(0, 2), ["joint", "joint"]))
