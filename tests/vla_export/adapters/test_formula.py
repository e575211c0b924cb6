"""The second evaluation of every formula: it agrees with the branches, and sees one that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.toy_policy import FLOW_STEPS, toy_samples
from vla_export.adapters.adapter import Branch
from vla_export.adapters.apply import apply_exact
from vla_export.adapters.formula import checking, formula, gates_by_formula
from vla_export.adapters.gating import EnergyGating, ExpertGating, Gating, ProjectedGating, release_experts
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.graph.precision import half
from vla_export.models.pi0 import Pi0
from vla_export.sample import sample_actions

PATH = "expert.layers.2.mlp.down_proj"


def branches(policy: Pi0, files: Any) -> dict[str, Branch]:
    adapter = read_lora_sp(files.write(files.tensors()))
    layers = apply_exact(policy, adapter, files.modules)
    return {layer.path: branch for layer in layers if (branch := adapter.updates[layer.source].branch)}


@pytest.mark.parametrize("halved", [False, True])
def test_a_branch_that_is_off_its_formula_is_seen(policy: Pi0, files: Any, halved: bool) -> None:
    applied = branches(policy, files)
    if halved:
        half(policy)
    wrong = policy.get_submodule(PATH)
    assert isinstance(wrong, RoutedLinear)
    wrong.up.weight = nn.Parameter(wrong.up.weight * 1.1, requires_grad=False)
    with checking(policy, applied) as checks:
        sample_actions(policy, toy_samples(1)[0], FLOW_STEPS)
    assert checks[PATH].error > 1e-3
    assert all(check.error < 1e-5 for path, check in checks.items() if path != PATH)
    assert any(check.error > 0 for path, check in checks.items() if path != PATH), (
        "a formula that is the branch itself cannot find fault"
    )


@pytest.mark.parametrize("semantics", ["released", "paper"])
def test_scores_with_a_known_answer(semantics: Any) -> None:
    """Scores 3, 2, 1: cumulative shares 9/14, 13/14, 1."""
    router = torch.tensor([[1.0], [3.0], [2.0]])
    branch = Branch(torch.ones(3, 1), torch.eye(3), router, EnergyGating(3, 0.8, semantics))
    update, margin = formula(torch.tensor([[1.0], [2.0]]), branch)
    kept = torch.tensor([0.0, 3.0, 2.0 if semantics == "paper" else 0.0])
    torch.testing.assert_close(update, torch.stack((kept, 4 * kept)))
    torch.testing.assert_close(margin, torch.full((2,), 13 / 14 - 0.8))


def gatings() -> list[Gating]:
    projection = torch.randn((8, 4), generator=torch.Generator().manual_seed(5))
    return [
        EnergyGating(8, 0.8, "released"),
        EnergyGating(8, 0.8, "paper"),
        EnergyGating(5, 0.8, "released", silent=3, most=4),
        EnergyGating(5, 0.8, "paper", silent=3, most=2),
        ExpertGating([3, 1, 2, 2], 2),
        ExpertGating([3, 0, 2, 2], 3),
        *(release_experts(4, 2, routing) for routing in ("weighted", "top1", "top2")),
        *(
            ProjectedGating(release_experts(4, 2, routing), projection, EnergyGating(8, 0.7, "released"))
            for routing in ("weighted", "top1", "top2")
        ),
    ]


@pytest.mark.parametrize("gating", gatings())
def test_every_gating_has_a_formula_that_agrees(gating: Gating) -> None:
    scores = torch.randn((50, gating.scores), generator=torch.Generator().manual_seed(9))
    gates, margin = gates_by_formula(scores, gating)
    torch.testing.assert_close(gates, gating(scores))
    assert margin.min() > 1e-6


def test_tokens_on_the_edge_are_known_as_such() -> None:
    _, margin = gates_by_formula(torch.tensor([[1.0, 1.0, 1.0, 1.0]]), EnergyGating(4, 0.5, "released"))
    assert margin.tolist() == [0.0]
    _, margin = gates_by_formula(torch.tensor([[1.0, 1.0, 0.0]]), ExpertGating([1, 1, 1], 1))
    assert margin.tolist() == [0.0]
