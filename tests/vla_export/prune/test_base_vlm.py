"""Bases as every release lays them out, and directories that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.toy_policy import toy_policy
from tests.vla_export.models.tiny_families import smolvla
from tests.vla_export.prune.toy_bases import vlm_tensors, write_base
from vla_export.prune.base_vlm import open_base
from vla_export.prune.divergence import check_base
from vla_runtime.errors import BadInput

MODULES = ("vision.mlp", "vision.heads", "language.mlp", "language.heads")


def hub(name: str) -> str:
    """What google/paligemma-3b-mix-224 calls a tensor: transformers up to 4.51, and what later ones go on writing."""
    return name.removeprefix("model.").replace("language_model.", "language_model.model.")


def flat(name: str) -> str:
    """Transformers since 5.8, whose tower has no module inside."""
    return name.replace("vision_tower.vision_model.", "vision_tower.")


def doubled(name: str) -> str:
    """What transformers 5.5.4 saved of a PaliGemma."""
    return name.replace("model.language_model.", "model.language_model.model.")


RELEASES: dict[str, Callable[[str], str]] = {
    "today": str,
    "hub": hub,
    "doubled": doubled,
    "flat": flat,
    "hub, flat": lambda n: flat(hub(n)),
}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("release", RELEASES)
def test_every_release_is_read_by_our_names(release: str, shards: int, tmp_path: Path) -> None:
    model = toy_policy()
    tensors = vlm_tensors(model, "pi0") | {"lm_head.weight": torch.zeros(3)}
    base = open_base(write_base(tmp_path, tensors, rename=RELEASES[release], shards=shards), "pi0")
    check_base(model, base, MODULES)
    for name in ("language.layers.5.mlp.down_proj.weight", "vision.stack.layers.1.attention.q_proj.bias"):
        assert torch.equal(base.read(name), model.get_parameter(name))
    assert not base.has("language.layers.5.mlp.down_proj.bias")
    assert base.depth("language.layers.0.mlp.gate_proj.weight") == 6


def test_smolvlm_may_have_more_layers_than_the_policy_kept(tmp_path: Path) -> None:
    model = smolvla()
    tensors = vlm_tensors(model, "smolvla")
    more = {n.replace("layers.3.", "layers.4."): t.clone() for n, t in tensors.items() if "text_model.layers.3." in n}
    base = open_base(write_base(tmp_path, tensors | more, "smolvlm"), "smolvla")
    check_base(model, base, MODULES)
    assert base.depth("language.layers.0.mlp.gate_proj.weight") == 5
    name = "language.layers.3.attention.k_proj.weight"
    assert torch.equal(base.read(name), model.get_parameter(name))


GATE = "model.language_model.layers.2.mlp.gate_proj.weight"


def cut(tensors: dict[str, Tensor]) -> None:
    tensors[GATE] = tensors[GATE][:-1]


def drop(tensors: dict[str, Tensor]) -> None:
    del tensors[GATE]


def count(tensors: dict[str, Tensor]) -> None:
    tensors[GATE] = tensors[GATE].int()


def deepen(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if "language_model.layers.5." in name]:
        tensors[name.replace("layers.5.", "layers.6.")] = tensors[name].clone()


def widen_bias(tensors: dict[str, Tensor]) -> None:
    name = "model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias"
    tensors[name] = torch.zeros(7)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut, r"layers\.2\.mlp\.gate_proj\.weight is \[31, 24\], the policy's is \[32, 24\]; give that one \(google/"),
        (drop, r"model\.language_model\.layers\.2\.mlp\.gate_proj\.weight is missing"),
        (count, r"gate_proj\.weight is I32, not floating point"),
        (deepen, r"layers\.0\.mlp\.gate_proj\.weight is in 7 layers, the policy's in 6"),
        (widen_bias, r"layers\.0\.mlp\.fc1\.bias is \[7\], the policy's is \[24\]"),
    ],
)
def test_a_base_that_does_not_fit_is_refused_by_tensor(
    spoil: Callable[[dict[str, Tensor]], None], message: str, tmp_path: Path
) -> None:
    tensors = vlm_tensors(toy_policy(), "pi0")
    spoil(tensors)
    base = open_base(write_base(tmp_path, tensors), "pi0")
    with pytest.raises(BadInput, match=rf"is not the PaliGemma that this policy was trained from: .*{message}"):
        check_base(toy_policy(), base, MODULES)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in vlm_tensors(toy_policy(), "pi0").items() if "language" not in name}
    base = open_base(write_base(tmp_path, tensors), "pi0")
    with pytest.raises(BadInput, match=r"is missing; .* is missing; .* is missing; and 15 more"):
        check_base(toy_policy(), base, ["language.mlp"])


PRISMATIC = {"model": {"model_id": "prism-dinosiglip-224px+7b", "llm_backbone_id": "llama2-7b-pure"}, "run_id": "x"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PRISMATIC, "Prismatic, on which no family of this project is built; a pi05 policy is trained from PaliG"),
        ({"model_type": "openvla"}, "OpenVLA, on which no family"),
        ({"model_type": "qwen2_5_vl"}, "Qwen-VL, on which no family"),
        ({"model_type": "qwen3_vl"}, "Qwen-VL, on which no family"),
        ({"model_type": "smolvlm"}, "its model_type is 'smolvlm', expected 'paligemma'"),
        ({"type": "pi05"}, r"a policy \(pi05\), not what one is trained from"),
        ({}, "its model_type is None"),
    ],
)
def test_another_model_is_refused_by_name(config: dict[str, object], message: str, tmp_path: Path) -> None:
    write_base(tmp_path, vlm_tensors(toy_policy(), "pi05"))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=message):
        open_base(tmp_path, "pi05")


def test_half_a_directory_and_doubled_tensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no config\.json there; a pi0 policy is trained from PaliGemma: give its dir"):
        open_base(tmp_path, "pi0")
    (tmp_path / "config.json").write_text('{"model_type": "paligemma"}')
    with pytest.raises(BadInput, match=r"no model\.safetensors and no shards of it there"):
        open_base(tmp_path, "pi0")
    tensors = vlm_tensors(toy_policy(), "pi0")
    write_base(tmp_path, tensors | {hub(GATE): tensors[GATE].clone()})
    with pytest.raises(BadInput, match="one tensor in two releases' names"):
        open_base(tmp_path, "pi0")
    with pytest.raises(BadInput, match="no base is known for a act policy; known: pi0, pi05, smolvla"):
        open_base(tmp_path, "act")
