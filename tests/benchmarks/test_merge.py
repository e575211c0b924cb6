"""Planted banks concentrate as published ones do; what is compared is the same policy; ratios are taken run by run."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.merge import QUICK, ratio
from benchmarks.merge_contestants import BANK, DECAYS, Decay, planted, routed_policy
from benchmarks.random_policy import FLOW_STEPS, random_policy
from vla_export.adapters.observed import observing
from vla_export.adapters.static_fit import routed_linears
from vla_export.models.smolvla import SmolVLA
from vla_export.sample import sample_actions

SETTING = dataclasses.replace(QUICK.setting, config=dataclasses.replace(QUICK.setting.config, image_size=128))


@pytest.mark.parametrize("decay", DECAYS)
def test_planted_banks_are_used_as_published_ones_on_samples_they_were_not_made_from(decay: Decay) -> None:
    model = routed_policy(SETTING, decay)
    linears = list(routed_linears(model))
    assert len(linears) == 26
    with observing(model, linears) as seen:
        for sample in SETTING.observations().held_out:
            sample_actions(model, sample, FLOW_STEPS)
    ranks = sorted(observation.mean_rank for observation in seen.values())
    assert 10 <= ranks[len(ranks) // 2] <= 16  # published: 12 to 14


def test_each_branch_adds_about_a_tenth_of_its_linear() -> None:
    model = random_policy(SmolVLA, SETTING.config)
    for path, branch in planted(model, SETTING, "exponential").items():
        linear = model.get_submodule(path)
        x = torch.randn(50, linear.in_features, generator=torch.Generator().manual_seed(0))
        update = (x @ branch.A.T * DECAYS["exponential"].norm() * BANK**-0.5) @ branch.B.T
        assert 0.05 < float(update.norm() / (x @ linear.weight.T).norm()) < 0.2


def test_a_run_in_which_the_machine_was_slow_for_all_changes_no_ratio() -> None:
    found = ratio([2.0, 20.0, 4.0], [1.0, 10.0, 2.0])
    assert (found.median, found.range) == (2.0, (2.0, 2.0))
