"""The merge stage: what each mode makes of an adapter, and what it will not do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.toy_policy import ACTION, FLOW_STEPS, toy_policy, toy_samples
from vla_export.adapters.adapter import Adapter
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.merge import MergeMode, MergeReport, merge
from vla_export.adapters.static_fit import routed_linears
from vla_export.graph.precision import half
from vla_export.models.pi0 import Pi0
from vla_export.observations import Observations
from vla_export.progress import StageProgress
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput

HELD_OUT = toy_samples(3, seed=2)


def merged(
    policy: Pi0, adapter: Adapter, files: Any, mode: MergeMode, *, synthetic: bool = False, **more: Any
) -> MergeReport:
    return merge(
        policy,
        adapter,
        files.modules,
        mode,
        Observations(toy_samples(6, seed=1), toy_samples(3, seed=3), HELD_OUT, "toys", synthetic),
        FLOW_STEPS,
        ACTION,
        StageProgress(quiet=True),
        **more,
    )


def worst_error(policy: Pi0, reference: Pi0) -> float:
    """Largest RMS error of a dimension of the action, normalised."""
    ours, theirs = (
        torch.cat([sample_actions(p, s, FLOW_STEPS) for s in HELD_OUT])[..., :7] for p in (policy, reference)
    )
    return float((ours - theirs).double().square().mean((0, 1)).sqrt().max())


@pytest.fixture
def exact(files: Any) -> Pi0:
    """The same policy with every branch exact and no bank cut."""
    policy = toy_policy()
    merged(policy, read_lora_sp(files.write(files.tensors())), files, "exact", synthetic=True)
    return policy


def test_exact_keeps_every_branch(policy: Pi0, files: Any, exact: Pi0) -> None:
    report = merged(policy, read_lora_sp(files.write(files.tensors())), files, "exact")
    assert (report.requested, report.static, report.within_budget) == ("exact", None, True)
    assert report.counts() == {"exact": len(files.modules)}
    assert report.in_words() == "LoRA-SP with the released semantics on 41 linears: 41 exact"
    assert report.settings["threshold"] == "0.9"
    assert worst_error(policy, exact) < 1e-5
    assert MergeReport.model_validate_json(report.model_dump_json()) == report


def test_static_keeps_none(policy: Pi0, files: Any, exact: Pi0) -> None:
    report = merged(policy, read_lora_sp(files.write(files.tensors())), files, "static", budget=1e-4)
    assert report.counts() == {"static": len(files.modules)}
    assert not routed_linears(policy)
    assert not report.within_budget
    assert max(error.rms for error in report.errors) == pytest.approx(worst_error(policy, exact), rel=1e-3)
    assert "furthest off" in report.error_in_words()


@pytest.mark.parametrize("halved", [False, True], ids=["float32", "float16"])
def test_auto_stays_within_the_budget(policy: Pi0, files: Any, exact: Pi0, halved: bool) -> None:
    originals = {name: parameter.clone() for name, parameter in policy.named_parameters()}
    budget = 0.04
    if halved:
        half(policy)
    report = merged(
        policy, read_lora_sp(files.write(files.tensors())), files, "auto", budget=budget, original=originals.__getitem__
    )
    counts = report.counts()
    assert counts["static"] > 0
    assert counts["exact"] > 0
    assert len(routed_linears(policy)) == counts["exact"]
    assert report.within_budget
    assert worst_error(policy, exact) <= budget * (1.1 if halved else 1)  # half weights are off by themselves
    assert all((fit is not None) == (outcome != "folded") for _, fit, outcome in report.layers())


def test_auto_merges_nothing_on_made_up_observations(policy: Pi0, files: Any) -> None:
    report = merged(policy, read_lora_sp(files.write(files.tensors())), files, "auto", synthetic=True, budget=1e9)
    assert (report.static, report.exact.cut) == (None, None)
    assert report.counts() == {"exact": len(files.modules)}
    assert "give --calibration" in report.reason


@pytest.mark.parametrize("mode", ["exact", "static", "auto"])
def test_what_depends_on_no_input_folds_in_every_mode(policy: Pi0, files: Any, mode: MergeMode) -> None:
    tensors = {name: t[:2] if name.endswith(".A") else t[:, :2] for name, t in files.tensors().items()}
    tensors = {name: t.contiguous() for name, t in tensors.items() if not name.endswith(".router.weight")}
    adapter = read_lora_sp(files.write(tensors, {"method": "lora", "r": 2, "alpha": 4.0}))
    report = merged(policy, adapter, files, mode)
    assert report.counts() == {"folded": len(files.modules)}
    assert (report.error_in_words(), report.static) == ("no difference", None)
    assert "without loss" in report.reason


def test_another_sets_statistics_are_refused_before_anything_is_touched(policy: Pi0, files: Any, tmp_path: Any) -> None:
    statistics = tmp_path / "dataset_statistics.json"
    statistics.write_text(json.dumps({"robot": {"action": {"q01": [0.0] * 7, "q99": [1.0] * 7}}}))
    adapter = replace(read_lora_sp(files.write(files.tensors())), statistics=statistics)
    before = list(policy.state_dict())
    with pytest.raises(BadInput, match="normalised otherwise than any of robot"):
        merged(policy, adapter, files, "exact")
    assert list(policy.state_dict()) == before
