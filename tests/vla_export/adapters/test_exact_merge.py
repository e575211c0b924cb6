"""Exact merges: the policy they leave and the report they write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.toy_policy import ACTION, FLOW_STEPS, toy_policy, toy_samples
from vla_export.adapters.exact_merge import ExactReport, merge_exact, runs
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.graph.precision import half, is_half
from vla_export.models.pi0 import Pi0
from vla_export.sample import sample_actions
from vla_runtime.errors import WorkFailed

PATH = "language.layers.0.attention.q_proj"
CONFIG = {"method": "lora_sp", "r": 2, "alpha": 4.0, "num_experts": 3}


def test_the_report_says_what_the_adapter_is_and_does(policy: Pi0, files: Any) -> None:
    samples = toy_samples(3)
    before = [sample_actions(policy, sample, FLOW_STEPS) for sample in samples]
    parameters = sum(p.numel() for p in policy.parameters())
    adapter = read_lora_sp(files.write(files.tensors()))

    found = merge_exact(policy, adapter, files.modules, samples, FLOW_STEPS, ACTION)
    report = found.report

    after = [sample_actions(policy, sample, FLOW_STEPS) for sample in samples]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found.actions, after, strict=True))
    change = torch.cat(after)[..., :7] - torch.cat(before)[..., :7]
    expected = float(change.norm() / torch.cat(before)[..., :7].norm())
    assert report.effect.relative_error == pytest.approx(expected, rel=1e-5)
    assert expected > 1e-2
    assert (report.cut, report.cut_undone, {error.rms for error in report.errors}) == (None, False, {0.0})
    assert {layer.layer.source for layer in report.layers} == set(files.modules)
    for layer in report.layers:
        assert 1 <= layer.mean_rank <= layer.max_rank <= layer.kept == 6
        assert sum(layer.ranks) == layer.tokens
        assert sum(n * count for n, count in enumerate(layer.ranks)) == pytest.approx(layer.mean_rank * layer.tokens)
        assert layer.ranks[layer.max_rank] > 0
        assert layer.formula_error < 1e-5
        assert layer.missed == 0
        assert layer.cost is not None
        assert layer.cost.tokens == layer.tokens / 3
        assert layer.cost.flops_exact - layer.cost.flops_static == 2 * layer.layer.parameters
    assert [layer.layer.path for layer in report.layers] == list(files.linears)  # in the policy's order
    assert sum(layer.undecided for layer in report.layers) == 0
    assert sum(p.numel() for p in policy.parameters()) == parameters + report.parameters_added
    assert ExactReport.model_validate_json(report.model_dump_json()) == report


def test_a_bank_is_cut_to_what_calibration_uses_and_the_rest_is_measured(policy: Pi0, files: Any) -> None:
    """Calibrated on a black picture and a still robot, and judged on others."""
    adapter = read_lora_sp(files.write(files.tensors(), {**CONFIG, "threshold": 0.3}))
    samples, (plain, *_) = toy_samples(3), toy_samples(3)
    zeros = {"images": torch.zeros_like(plain.observed["images"]), "state": torch.zeros(1, 8)}
    calibration = [replace(plain, observed={**plain.observed, **zeros}, noise=torch.zeros_like(plain.noise))]

    uncut = toy_policy()
    merge_exact(uncut, adapter, files.modules, samples, FLOW_STEPS, ACTION)
    found = merge_exact(policy, adapter, files.modules, samples, FLOW_STEPS, ACTION, calibration, budget=float("inf"))
    report = found.report

    was = torch.cat([sample_actions(uncut, sample, FLOW_STEPS) for sample in samples])[..., :7]
    now = torch.cat([sample_actions(policy, sample, FLOW_STEPS) for sample in samples])[..., :7]
    assert report.cut is not None
    assert report.cut.relative_error == pytest.approx(float((now - was).norm() / was.norm()), rel=1e-4)
    assert report.cut.relative_error > 0
    assert [error.rms for error in report.errors] == pytest.approx((now - was).square().mean((0, 1)).sqrt().tolist())
    torch.testing.assert_close(torch.cat(found.actions)[..., :7], was)  # what merging is measured against is not cut
    assert sum(layer.missed for layer in report.layers) > 0
    for layer in report.layers:
        linear = policy.get_submodule(layer.layer.path)
        assert isinstance(linear, RoutedLinear)
        assert linear.directions == layer.kept <= 6
    assert sum(layer.kept for layer in report.layers) < 6 * len(report.layers)
    for sample in calibration:
        torch.testing.assert_close(
            sample_actions(policy, sample, FLOW_STEPS), sample_actions(uncut, sample, FLOW_STEPS), rtol=1e-4, atol=1e-4
        )


def test_a_cut_beyond_the_budget_is_undone(policy: Pi0, files: Any) -> None:
    """Calibrated on a chunk without noise and a still robot, of which most directions are never used."""
    adapter = read_lora_sp(files.write(files.tensors(), {**CONFIG, "threshold": 0.3}))
    samples, (plain, *_) = toy_samples(3), toy_samples(3)
    still = replace(plain, observed={**plain.observed, "state": torch.zeros(1, 8)}, noise=torch.zeros_like(plain.noise))
    uncut = toy_policy()
    merge_exact(uncut, adapter, files.modules, samples, FLOW_STEPS, ACTION)
    found = merge_exact(policy, adapter, files.modules, samples, FLOW_STEPS, ACTION, [still], budget=1e-9)
    assert found.report.cut is not None
    assert found.report.cut.relative_error > 1e-6
    assert found.report.cut_undone
    assert {error.rms for error in found.report.errors} == {0.0}
    assert all(layer.kept == 6 for layer in found.report.layers)
    for sample in samples:
        assert torch.equal(sample_actions(policy, sample, FLOW_STEPS), sample_actions(uncut, sample, FLOW_STEPS))


@pytest.mark.parametrize("calibration", [0, 2])
def test_progress_is_told_of_every_run(policy: Pi0, files: Any, calibration: int) -> None:
    told: list[None] = []
    adapter = read_lora_sp(files.write(files.tensors(), {**CONFIG, "threshold": 0.3}))
    merge_exact(
        policy,
        adapter,
        files.modules,
        toy_samples(3),
        FLOW_STEPS,
        ACTION,
        toy_samples(calibration, seed=1),
        toy_samples(calibration, seed=4),
        progress=lambda: told.append(None),
    )
    assert len(told) == runs(calibration, calibration, 3)


def test_a_threshold_of_one_keeps_the_whole_bank(policy: Pi0, files: Any) -> None:
    path = files.write(files.tensors(), {**CONFIG, "threshold": 1.0})
    report = merge_exact(policy, read_lora_sp(path), files.modules, toy_samples(1), FLOW_STEPS, ACTION).report
    assert all(layer.max_rank == 6 for layer in report.layers)
    assert all(layer.undecided <= layer.tokens // 4 for layer in report.layers)


def test_a_lower_threshold_uses_fewer_directions(files: Any) -> None:
    means = []
    for threshold in (0.3, 0.9):
        adapter = read_lora_sp(files.write(files.tensors(), {**CONFIG, "threshold": threshold}))
        report = merge_exact(toy_policy(), adapter, files.modules, toy_samples(2), FLOW_STEPS, ACTION).report
        means.append(sum(layer.mean_rank for layer in report.layers) / len(report.layers))
    assert means[0] < means[1] - 0.5


def test_an_adapter_without_branches_only_folds(policy: Pi0, files: Any) -> None:
    tensors = {name: t[:2] if name.endswith(".A") else t[:, :2] for name, t in files.tensors().items()}
    tensors = {name: t.contiguous() for name, t in tensors.items() if not name.endswith(".router.weight")}
    path = files.write(tensors, {"method": "lora", "r": 2, "alpha": 4.0})
    report = merge_exact(policy, read_lora_sp(path), files.modules, toy_samples(2), FLOW_STEPS, ACTION).report
    assert all(layer.layer.folded and not layer.layer.bank for layer in report.layers)
    assert (report.parameters_added, report.cut) == (0, None)
    assert report.effect.relative_error > 1e-2


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_branch_on_a_linear_that_never_runs_is_an_error(policy: Pi0, files: Any, calibrated: bool) -> None:
    source = "model.trained.unused"
    policy.unused = torch.nn.Linear(4, 3)
    tensors = {
        **files.tensors(),
        f"{source}.A": torch.ones(6, 4),
        f"{source}.B": torch.ones(3, 6),
        f"{source}.router.weight": torch.ones(6, 4),
    }
    adapter, modules = read_lora_sp(files.write(tensors)), {**files.modules, source: "unused"}
    samples = toy_samples(1)
    with pytest.raises(WorkFailed, match="unused: carries an adapter but never ran"):
        merge_exact(policy, adapter, modules, samples, FLOW_STEPS, ACTION, samples if calibrated else ())


@pytest.mark.parametrize("projected", [False, True])
def test_a_half_policy_is_merged_and_measured_in_float32(policy: Pi0, files: Any, projected: bool) -> None:
    tensors, config = files.tensors(), {**CONFIG, "router_projection": projected}
    if projected:
        tensors = {n: t[:3].contiguous() if n.endswith("router.weight") else t for n, t in tensors.items()}
        eye = torch.eye(3).repeat_interleave(2, dim=0)
        tensors |= {f"{source}.router_proj": eye + 0.1 for source in files.modules}
    original = {name: parameter.clone() for name, parameter in policy.named_parameters()}
    half(policy)
    adapter, samples = read_lora_sp(files.write(tensors, config)), toy_samples(2)
    report = merge_exact(
        policy, adapter, files.modules, samples, FLOW_STEPS, ACTION, samples, samples, original.__getitem__
    ).report
    assert is_half(policy)
    assert all(layer.formula_error < 1e-5 for layer in report.layers)
    assert all(layer.missed == 0 for layer in report.layers)
    half(policy)  # what an export in half precision does: nothing is left to round
    assert policy.get_submodule(PATH).base.weight.dtype == torch.float16
