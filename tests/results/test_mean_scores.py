"""The merge by mean scores, against the formula over every token, and what vla-export says it loses."""

from __future__ import annotations

import torch

from results.mean_scores import merge_mean_scores
from tests.toy_policy import FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.adapters.routed_toys import ConstantGating, answers, route
from tests.vla_export.adapters.test_layer_tokens import collect
from vla_export.adapters.static_fit import gated_directions, routed_linears

PATHS = ("expert.layers.2.mlp.down_proj", "language.layers.1.attention.q_proj", "vision.stack.layers.0.mlp.fc1")


def test_a_weight_is_the_base_and_the_branch_at_its_mean_scores() -> None:
    model = toy_policy()
    route(model, kinds=PATHS)
    samples = toy_samples(3, seed=1)
    expected = {}
    for path in PATHS:
        linear = routed_linears(model)[path]
        branch = linear.branch
        x = torch.cat([call.x for sample in samples for call in collect(model, [path], sample, FLOW_STEPS)[path]])
        _, gates = gated_directions(x, branch)
        update = branch.B.double() @ torch.diag(gates.double().mean(0)) @ branch.A.double()
        expected[path] = (linear.base.weight.double() + update, linear.base.bias)
    merge_mean_scores(model, samples, FLOW_STEPS)
    assert not routed_linears(model)
    for path, (weight, bias) in expected.items():
        plain = model.get_submodule(path)
        torch.testing.assert_close(plain.weight.double(), weight, rtol=1e-5, atol=1e-6)
        assert plain.bias is bias


def test_scores_that_never_change_merge_without_loss() -> None:
    model, samples = toy_policy(), toy_samples(3, seed=1)
    route(model, gating=ConstantGating(torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, 0.3])))
    exact = answers(model, samples, FLOW_STEPS)
    merge_mean_scores(model, samples, FLOW_STEPS)
    torch.testing.assert_close(answers(model, samples, FLOW_STEPS), exact, rtol=1e-3, atol=1e-4)


def test_scores_that_change_lose_something() -> None:
    model, samples = toy_policy(), toy_samples(3, seed=1)
    route(model, size=0.3)
    exact = answers(model, samples, FLOW_STEPS)
    merge_mean_scores(model, samples, FLOW_STEPS)
    assert (
        max(float((a - b).abs().max()) for a, b in zip(answers(model, samples, FLOW_STEPS), exact, strict=True)) > 0.01
    )
