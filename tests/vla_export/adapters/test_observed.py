"""Observing branches at work: a wrong one is seen, and ranks are counted right."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.toy_policy import FLOW_STEPS, toy_samples
from vla_export.adapters.apply import apply_exact
from vla_export.adapters.lora_sp import LoRASPBranch, LoRASPConfig, read_lora_sp
from vla_export.adapters.observed import formula, observing
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.pi0 import Pi0
from vla_export.sample import sample_actions

PATH = "expert.layers.2.mlp.down_proj"


def test_a_branch_that_is_off_its_formula_is_seen(policy: Pi0, files: Any) -> None:
    adapter = read_lora_sp(files.write(files.tensors()))
    layers = apply_exact(policy, adapter, files.modules)
    wrong = policy.get_submodule(PATH)
    assert isinstance(wrong, RoutedLinear)
    wrong.up.weight *= 1.1
    with observing(policy, adapter, layers) as seen:
        sample_actions(policy, toy_samples(1)[0], FLOW_STEPS)
    assert seen[PATH].error > 1e-3
    assert all(observation.error < 1e-5 for path, observation in seen.items() if path != PATH)


def test_every_token_of_every_call_is_counted(policy: Pi0, files: Any) -> None:
    adapter = read_lora_sp(files.write(files.tensors()))
    layers = apply_exact(policy, adapter, files.modules)
    with observing(policy, adapter, layers) as seen:
        for sample in toy_samples(2):
            sample_actions(policy, sample, FLOW_STEPS)
    sample_actions(policy, toy_samples(1)[0], FLOW_STEPS)  # no longer observed
    patches, words, horizon = 2 * 4, 4, 5
    assert seen["language.layers.0.attention.q_proj"].tokens == 2 * (patches + words)
    assert seen[PATH].tokens == 2 * (1 + FLOW_STEPS * horizon)  # the state once, the chunk in every step


@pytest.mark.parametrize("semantics", ["released", "paper"])
def test_ranks_of_scores_with_a_known_answer(semantics: Any) -> None:
    """Scores 3, 2, 1: cumulative shares 9/14, 13/14, 1."""
    config = LoRASPConfig(method="lora_sp", r=1, alpha=1.0, num_experts=3, threshold=0.8, semantics=semantics)
    branch = LoRASPBranch(torch.ones(3, 1), torch.eye(3), torch.tensor([[1.0], [3.0], [2.0]]))
    update, ranks, margin = formula(torch.tensor([[1.0], [2.0]]), branch, config)
    rank = 1 if semantics == "released" else 2
    assert ranks.tolist() == [rank, rank]
    kept = torch.tensor([0.0, 3.0, 2.0 if rank == 2 else 0.0])
    torch.testing.assert_close(update, torch.stack((kept, 4 * kept)))
    torch.testing.assert_close(margin, torch.full((2,), 13 / 14 - 0.8))
