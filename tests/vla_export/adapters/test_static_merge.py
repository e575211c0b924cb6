"""Whole policies, merged: what is left of them, and what the report says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.toy_policy import ACTION, FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.adapters.routed_toys import ConstantGating, answers, quadratic_state, route, state_samples
from vla_export.adapters.placement import EDGES
from vla_export.adapters.static_fit import routed_linears
from vla_export.adapters.static_merge import StaticReport, merge_static
from vla_export.graph.precision import half
from vla_export.models.pi0 import Pi0
from vla_export.observations import Observations
from vla_export.progress import StageProgress
from vla_export.prune.surgery import remove_layers

KINDS = ("q_proj", "fc2", "down_proj", "action_out_proj")
CALIBRATION, CHOOSING, HELD_OUT = toy_samples(6, seed=1), toy_samples(3, seed=3), toy_samples(3, seed=2)


def merge(model: Pi0, keep_exact: bool, budget: float = 0.01) -> tuple[list[torch.Tensor], StaticReport]:
    exact = answers(model, HELD_OUT, FLOW_STEPS)
    report = merge_static(
        model,
        exact,
        Observations(CALIBRATION, CHOOSING, HELD_OUT, "toys", synthetic=False),
        FLOW_STEPS,
        ACTION,
        StageProgress(quiet=True),
        keep_exact=keep_exact,
        budget=budget,
    )
    return exact, report


def shares(exact: list[torch.Tensor], model: Pi0) -> list[float]:
    """RMS error of each dimension of the action, normalised."""
    merged = torch.cat(answers(model, HELD_OUT, FLOW_STEPS))
    return (merged - torch.cat(exact))[..., :7].double().square().mean((0, 1)).sqrt().tolist()


def test_static_leaves_a_plain_policy_and_says_what_it_is_off_by() -> None:
    model = toy_policy()
    sizes = {path: module.weight.shape for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    route(model, size=0.1, kinds=KINDS)
    exact, report = merge(model, keep_exact=False)
    assert {path: m.weight.shape for path, m in model.named_modules() if isinstance(m, nn.Linear)} == sizes
    assert {layer.decision for layer in report.layers} == {"static"}
    assert [error.rms for error in report.errors] == pytest.approx(shares(exact, model), rel=1e-4)
    assert max(error.rms for error in report.errors) > 0.01
    assert not report.within_budget
    assert report.effect.relative_error > 0.01
    assert StaticReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize("halved", [False, True], ids=["float32", "float16"])
def test_auto_merges_what_the_budget_allows(halved: bool) -> None:
    model = toy_policy()
    paths = route(model, size=0.03, kinds=KINDS)
    if halved:
        half(model)
    exact, report = merge(model, keep_exact=True, budget=0.02)
    left = set(routed_linears(model))
    assert 0 < len(left) < len(paths)
    assert {layer.path for layer in report.layers if layer.decision == "exact"} == left
    assert max(shares(exact, model)) <= 0.02
    assert report.within_budget
    costs = [(layer.decision, layer.cost) for layer in report.layers]
    assert all(cost.flops_static < cost.flops_exact and cost.bytes_static < cost.bytes_exact for _, cost in costs)
    assert set(report.alone) == {
        *(f"{stack} {kind}" for stack in ("language", "expert") for kind in ("q_proj", "down_proj")),
        "vision q_proj",
        "vision fc2",
        f"{EDGES} action_out_proj",
    }


def test_auto_is_deterministic() -> None:
    reports = []
    for _ in range(2):
        model = toy_policy()
        route(model, size=0.03, kinds=("expert.layers.1.mlp.down_proj", "state_proj", "3.attention.q_proj"))
        reports.append(merge(model, keep_exact=True, budget=0.01)[1])
    assert reports[0] == reports[1]


def test_what_is_linear_merges_and_what_is_quadratic_stays_exact() -> None:
    model = toy_policy()
    constant = ConstantGating(torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, 0.3]))
    linear = route(model, size=0.1, kinds=KINDS, gating=constant)
    quadratic_state(model, size=0.5)
    held_out = state_samples(2)
    report = merge_static(
        model,
        answers(model, held_out, FLOW_STEPS),
        Observations(state_samples(1), held_out, held_out, "toys", synthetic=False),
        FLOW_STEPS,
        ACTION,
        StageProgress(quiet=True),
        keep_exact=True,
    )
    assert list(routed_linears(model)) == ["state_proj"]
    layers = {layer.path: layer for layer in report.layers}
    assert set(layers) == {*linear, "state_proj"}
    assert layers["state_proj"].residual_least_squares == pytest.approx(1.0, abs=1e-6)
    assert all(layers[path].residual_least_squares < 1e-10 for path in linear)
    assert max(error.rms for error in report.errors) < 1e-4


def test_costs_are_those_of_the_matrices() -> None:
    model = toy_policy()
    route(model, kinds=("language.layers.0.attention.q_proj",))
    _, report = merge(model, keep_exact=False)
    (layer,) = report.layers
    assert (layer.stack, layer.kind) == ("language", "q_proj")
    width, out, bank = 24, 16, 6
    assert layer.cost.tokens == 2 * 4 + 4
    assert layer.cost.flops_static == 2 * width * out
    assert layer.cost.flops_exact == 2 * (width * (out + 2 * bank) + bank * out)
    assert layer.cost.bytes_exact == 2 * layer.cost.flops_exact
    assert layer.cost.bytes_static == 4 * (width * out + out)


def test_layers_that_were_merged_can_still_be_removed() -> None:
    model = toy_policy()
    route(model, kinds=KINDS)
    merge(model, keep_exact=False)
    remove_layers(model, {"language": [2, 3], "expert": [2, 3]})
    assert all(chunk.isfinite().all() for chunk in answers(model, HELD_OUT, FLOW_STEPS))
