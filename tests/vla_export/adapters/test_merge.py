"""The merge stage: the policy it leaves and the report it writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.toy_policy import ACTION, FLOW_STEPS, toy_policy, toy_samples
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.merge import MergeReport, merge
from vla_export.models.pi0 import Pi0
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput, WorkFailed


def test_the_report_says_what_the_adapter_is_and_does(policy: Pi0, files: Any) -> None:
    samples = toy_samples(3)
    before = [sample_actions(policy, sample, FLOW_STEPS) for sample in samples]
    parameters = sum(p.numel() for p in policy.parameters())
    adapter = read_lora_sp(files.write(files.tensors()))

    merged, report = merge(policy, adapter, files.modules, "exact", samples, FLOW_STEPS, ACTION)

    after = [sample_actions(merged, sample, FLOW_STEPS) for sample in samples]
    change = torch.cat(after)[..., :7] - torch.cat(before)[..., :7]
    expected = float(change.norm() / torch.cat(before)[..., :7].norm())
    assert report.effect.relative_error == pytest.approx(expected, rel=1e-5)
    assert expected > 1e-2
    assert {layer.layer.source for layer in report.layers} == set(files.modules)
    assert all(1 <= layer.mean_rank <= layer.max_rank <= 6 for layer in report.layers)
    assert all(layer.formula_error < 1e-5 for layer in report.layers)
    assert sum(layer.undecided for layer in report.layers) == 0
    assert sum(p.numel() for p in merged.parameters()) == parameters + report.parameters_added
    assert MergeReport.model_validate_json(report.model_dump_json()) == report


def test_a_threshold_of_one_keeps_the_whole_bank(policy: Pi0, files: Any) -> None:
    path = files.write(files.tensors(), {"method": "lora_sp", "r": 2, "alpha": 4.0, "num_experts": 3, "threshold": 1.0})
    _, report = merge(policy, read_lora_sp(path), files.modules, "exact", toy_samples(1), FLOW_STEPS, ACTION)
    assert all(layer.max_rank == 6 for layer in report.layers)
    assert all(layer.undecided <= layer.tokens // 4 for layer in report.layers)


def test_a_lower_threshold_uses_fewer_directions(files: Any) -> None:
    means = []
    for threshold in (0.3, 0.9):
        config = {"method": "lora_sp", "r": 2, "alpha": 4.0, "num_experts": 3, "threshold": threshold}
        adapter = read_lora_sp(files.write(files.tensors(), config))
        _, report = merge(toy_policy(), adapter, files.modules, "exact", toy_samples(2), FLOW_STEPS, ACTION)
        means.append(sum(layer.mean_rank for layer in report.layers) / len(report.layers))
    assert means[0] < means[1] - 0.5


def test_auto_is_exact_and_says_why(policy: Pi0, files: Any) -> None:
    adapter = read_lora_sp(files.write(files.tensors()))
    _, report = merge(policy, adapter, files.modules, "auto", toy_samples(1), FLOW_STEPS, ACTION)
    assert (report.requested, report.mode) == ("auto", "exact")
    assert "static merging is not available yet" in report.reason


def test_static_is_refused_before_anything_is_touched(policy: Pi0, files: Any) -> None:
    adapter = read_lora_sp(files.write(files.tensors()))
    before = list(policy.state_dict())
    with pytest.raises(BadInput, match="--merge static: not available yet"):
        merge(policy, adapter, files.modules, "static", toy_samples(1), FLOW_STEPS, ACTION)
    assert list(policy.state_dict()) == before


def test_a_branch_on_a_linear_that_never_runs_is_an_error(policy: Pi0, files: Any) -> None:
    source = "model.trained.unused"
    policy.unused = torch.nn.Linear(4, 3)
    tensors = {
        **files.tensors(),
        f"{source}.A": torch.ones(6, 4),
        f"{source}.B": torch.ones(3, 6),
        f"{source}.router.weight": torch.ones(6, 4),
    }
    adapter = read_lora_sp(files.write(tensors))
    with pytest.raises(WorkFailed, match="unused: carries an adapter but never ran"):
        merge(policy, adapter, {**files.modules, source: "unused"}, "exact", toy_samples(1), FLOW_STEPS, ACTION)
