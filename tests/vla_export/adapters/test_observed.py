"""What branches were seen to select."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.toy_policy import FLOW_STEPS, toy_samples
from vla_export.adapters.adapter import Branch
from vla_export.adapters.apply import apply_exact
from vla_export.adapters.gating import EnergyGating, ExpertGating, Gating, ProjectedGating, release_experts
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.observed import observing
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.pi0 import Pi0
from vla_export.sample import sample_actions

PATH = "expert.layers.2.mlp.down_proj"
EYE = torch.eye(3)


def routed(gating: Gating) -> nn.Module:
    """One linear whose scores are its inputs."""
    model = nn.Module()
    base = nn.Linear(3, 3).requires_grad_(False)
    bank = gating.directions
    model.linear = RoutedLinear(base, Branch(torch.ones(bank, 3), torch.ones(3, bank), EYE[: gating.scores], gating))
    return model


def test_every_token_of_every_call_is_counted(policy: Pi0, files: Any) -> None:
    layers = apply_exact(policy, read_lora_sp(files.write(files.tensors())), files.modules)
    with observing(policy, [layer.path for layer in layers]) as seen:
        for sample in toy_samples(2):
            sample_actions(policy, sample, FLOW_STEPS)
    sample_actions(policy, toy_samples(1)[0], FLOW_STEPS)  # no longer observed
    patches, words, horizon = 2 * 4, 4, 5
    assert seen["language.layers.0.attention.q_proj"].tokens == 2 * (patches + words)
    assert seen[PATH].tokens == 2 * (1 + FLOW_STEPS * horizon)  # the state once, the chunk in every step


@pytest.mark.parametrize(("semantics", "rank"), [("released", 1), ("paper", 2)])
def test_ranks_of_scores_with_a_known_answer(semantics: Any, rank: int) -> None:
    """Scores 3, 2, 1: cumulative shares 9/14, 13/14, 1."""
    model = routed(EnergyGating(3, 0.8, semantics))
    with observing(model, ["linear"]) as seen:  # type: ignore[arg-type]  # any module has linears
        model.linear(torch.tensor([[[1.0, 3.0, 2.0], [2.0, 6.0, 4.0]], [[0.0, 5.0, 0.0], [0.0, 1.0, 0.0]]]))
    found = seen["linear"]
    assert (found.tokens, found.max_rank) == (4, rank)
    assert found.mean_rank == pytest.approx((2 * rank + 2) / 4)
    assert found.ranks.tolist() == ([0, 4, 0, 0] if rank == 1 else [0, 2, 2, 0])
    assert found.selected.tolist() == [False, True, rank == 2]


def test_what_goes_beyond_earlier_inputs_is_missed() -> None:
    model = routed(EnergyGating(3, 0.8, "paper"))
    with observing(model, ["linear"]) as known:  # type: ignore[arg-type]
        model.linear(torch.tensor([[3.0, 1.0, 2.0]]))
    assert known["linear"].selected.tolist() == [True, False, True]
    with observing(model, ["linear"], known) as seen:  # type: ignore[arg-type]
        model.linear(torch.tensor([[3.0, 1.0, 2.0], [3.0, 2.0, 1.0], [1.0, 0.1, 1.0], [3.0, 3.0, 3.0]]))
    assert seen["linear"].missed == 2


def test_a_kept_score_of_zero_counts_for_the_cut_and_not_for_the_rank() -> None:
    model = routed(EnergyGating(3, 1.0, "released"))
    with observing(model, ["linear"]) as seen:  # type: ignore[arg-type]
        model.linear(torch.tensor([[1.0, 0.0, -1.0]]))
    assert (seen["linear"].max_rank, seen["linear"].most) == (2, 3)


@pytest.mark.parametrize(
    ("gating", "rank"),
    [
        (ExpertGating([2, 1, 3], 1), 1),
        (release_experts(3, 2, "weighted"), 6),
        (ProjectedGating(release_experts(3, 1, "top2"), EYE, EnergyGating(3, 1.0, "released")), 2),
    ],
)
def test_other_gatings_are_seen_too(gating: Gating, rank: int) -> None:
    model = routed(gating)
    with observing(model, ["linear"]) as seen:  # type: ignore[arg-type]
        model.linear(torch.tensor([[0.0, 2.0, 1.0]]))
    assert seen["linear"].max_rank == rank
