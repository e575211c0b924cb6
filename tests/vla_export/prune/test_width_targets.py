"""Specs against what a policy has, and the published ratios."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.toy_policy import toy_policy
from vla_export.models.pi0 import Pi0
from vla_export.prune.spec import DivergenceWidth, Preset
from vla_export.prune.width_targets import width_targets
from vla_runtime.errors import BadInput


# The table of arXiv 2606.31382 for π0.5: vision channels and heads, language channels and heads.
@pytest.mark.parametrize(
    ("preset", "ratios"),
    [("light", (0.4, 0.2, 0.2, 0.2)), ("moderate", (0.2, 0.2, 0.3, 0.2)), ("aggressive", (0.2, 0.2, 0.5, 0.2))],
)
@pytest.mark.parametrize("family", ["pi0", "pi05", "smolvla"])
def test_presets_are_the_published_ones(preset: Preset, ratios: tuple[float, ...], family: str) -> None:
    found = width_targets(DivergenceWidth(preset, {}, False), toy_policy(), family)
    assert list(found) == ["vision.mlp", "vision.heads", "language.mlp", "language.heads"]
    assert tuple(target.ratio for target in found.values()) == ratios
    assert {target.direction for target in found.values()} == {"highest"}
    assert {("published" in target.basis and "nothing" not in target.basis) for target in found.values()} == {
        family == "pi05"
    }


def test_one_ratio_is_for_every_module_and_named_ones_for_theirs() -> None:
    model = toy_policy()
    every = width_targets(DivergenceWidth(None, 0.2, False), model, "pi05")
    assert {module: target.ratio for module, target in every.items()} == dict.fromkeys(
        ("vision.mlp", "vision.heads", "language.mlp", "language.heads"), 0.2
    )
    named = width_targets(DivergenceWidth(None, {"language.heads": 0.5, "vision.mlp": 0.1}, False), model, "pi05")
    assert {module: target.ratio for module, target in named.items()} == {"language.heads": 0.5, "vision.mlp": 0.1}


def test_a_preset_skips_what_a_policy_has_not_and_a_name_does_not() -> None:
    model = without_tower()
    assert list(width_targets(DivergenceWidth("light", {}, False), model, "pi0")) == ["language.mlp", "language.heads"]
    with pytest.raises(BadInput, match=r"no vision\.mlp to prune; expected language\.mlp, language\.heads"):
        width_targets(DivergenceWidth(None, {"vision.mlp": 0.2}, False), model, "pi0")


@pytest.mark.parametrize("module", ["expert.mlp", "projector.mlp", "language.layers"])
def test_other_modules_are_never_pruned(module: str) -> None:
    with pytest.raises(BadInput, match=f"--prune divergence:{module}=0.2: this policy has no {module} to prune"):
        width_targets(DivergenceWidth(None, {module: 0.2}, False), toy_policy(), "pi05")


def test_a_family_without_directions_is_refused() -> None:
    with pytest.raises(BadInput, match="no direction is known for a openvla policy; known: pi05, pi0, smolvla"):
        width_targets(DivergenceWidth("light", {}, False), toy_policy(), "openvla")


def test_a_policy_with_nothing_to_prune_is_refused() -> None:
    model = without_tower()
    model.language.layers = nn.ModuleList()
    with pytest.raises(BadInput, match="no channels and no heads that may be removed"):
        width_targets(DivergenceWidth("light", {}, False), model, "pi0")


def without_tower() -> Pi0:
    class Blind(nn.Module):
        def stacks(self) -> tuple[()]:
            return ()

    model = toy_policy()
    model.vision = Blind()  # type: ignore[assignment]  # a tower without transformer layers
    assert torch.is_tensor(next(model.parameters()))
    return model
