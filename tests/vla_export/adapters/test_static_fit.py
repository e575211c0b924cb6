"""Fits of whole policies: what they are made from, and what they say is lost."""

from __future__ import annotations

import pytest
import torch

from tests.toy_policy import FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.adapters.routed_toys import ConstantGating, quadratic_state, route, state_samples
from tests.vla_export.adapters.test_layer_tokens import collect
from vla_export.adapters.covariance import TokenStatistics
from vla_export.adapters.static_fit import RIDGES, fit_static, gated_directions, passes, routed_linears
from vla_runtime.errors import WorkFailed

PATHS = ("expert.layers.2.mlp.down_proj", "language.layers.1.attention.q_proj", "vision.stack.layers.0.mlp.fc1")


def test_each_linear_is_fitted_to_its_own_tokens_and_judged_on_others() -> None:
    model = toy_policy()
    route(model, kinds=PATHS)
    samples, others = toy_samples(3, seed=1), toy_samples(2, seed=2)
    fits = fit_static(model, samples, others, FLOW_STEPS)
    for path in PATHS:
        branch = routed_linears(model)[path].branch
        x, y = (
            torch.cat([getattr(call, name) for s in part for call in collect(model, [path], s, FLOW_STEPS)[path]])
            for part, name in ((samples, "x"), (others, "x"))
        )
        g, gates = gated_directions(x, branch)
        scores = gates.double().mean(0)[:, None] * branch.A.double()
        statistics = TokenStatistics(x.shape[1], 6)
        statistics.add(x, g)
        expected = dict(zip(RIDGES, statistics.fit(scores, RIDGES), strict=True))[fits[path].ridge]
        torch.testing.assert_close(fits[path].affine.matrix, expected.matrix.float())
        torch.testing.assert_close(fits[path].affine.offset, expected.offset.float())
        assert (fits[path].tokens, fits[path].held_out) == (len(x), len(y))

        f = gated_directions(y, branch)[0].double() @ branch.B.double().T
        for merged, residual in (
            ((y.double() @ expected.matrix.T + expected.offset) @ branch.B.double().T, fits[path].residual),
            (y.double() @ scores.T @ branch.B.double().T, fits[path].residual_mean_scores),
        ):
            assert residual == pytest.approx(float((f - merged).square().sum() / f.square().sum()), rel=1e-4)
        assert 0 < fits[path].residual < 1.5
        output = torch.nn.functional.linear(y, *routed_linears(model)[path].base.parameters()).double() + f
        assert fits[path].share == pytest.approx(float(f.square().sum() / output.square().sum()), rel=1e-4)


def test_a_branch_whose_gates_are_constant_merges_without_loss() -> None:
    model = toy_policy()
    route(model, gating=ConstantGating(torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, 0.3])))
    fits = fit_static(model, toy_samples(2, seed=1), toy_samples(1, seed=2), FLOW_STEPS)
    assert len(fits) == 102
    assert max(fit.residual for fit in fits.values()) < 1e-6**2
    assert max(fit.residual_mean_scores for fit in fits.values()) < 1e-6**2


def test_a_quadratic_update_of_symmetric_inputs_cannot_be_merged() -> None:
    model = toy_policy()
    quadratic_state(model, size=0.3)
    fits = fit_static(model, state_samples(1), state_samples(2), FLOW_STEPS)
    assert fits["state_proj"].residual == pytest.approx(1.0, abs=1e-6)
    assert fits["state_proj"].residual_mean_scores == pytest.approx(1.0, abs=1e-6)


def test_least_squares_lose_less_than_mean_scores_in_every_layer_they_were_fitted_to() -> None:
    model = toy_policy()
    route(model)
    samples = toy_samples(3, seed=1)
    fits = fit_static(model, samples, samples, FLOW_STEPS)
    assert all(fit.residual <= fit.residual_mean_scores + 1e-9 for fit in fits.values())


def test_less_memory_takes_more_passes_and_gives_the_same() -> None:
    model = toy_policy()
    route(model, kinds=PATHS)
    samples, others = toy_samples(2, seed=1), toy_samples(1, seed=2)
    steps: list[int] = []
    memory = 8 * 24 * 24
    assert (passes(model), passes(model, memory)) == (1, 3)
    found = fit_static(model, samples, others, FLOW_STEPS, lambda: steps.append(1), memory)
    expected = fit_static(model, samples, others, FLOW_STEPS)
    assert len(steps) == 3 * (len(samples) + len(others))
    assert list(found) == list(expected) == list(routed_linears(model))
    for path in found:
        assert torch.equal(found[path].affine.matrix, expected[path].affine.matrix)
        assert found[path].residual == expected[path].residual


def test_a_linear_that_never_runs_is_an_error() -> None:
    model = toy_policy()
    model.unused = torch.nn.Linear(4, 3)
    route(model, kinds=("unused",))
    with pytest.raises(WorkFailed, match="unused: carries an adapter but never ran"):
        fit_static(model, toy_samples(1), toy_samples(1), FLOW_STEPS)


def test_inputs_that_are_not_finite_are_an_error() -> None:
    model = toy_policy()
    route(model, kinds=("state_proj",))
    sample = toy_samples(1)[0]
    sample.observed["state"][0, 3] = torch.inf
    with pytest.raises(WorkFailed, match="state_proj: its inputs are not finite"):
        fit_static(model, [sample], toy_samples(1), FLOW_STEPS)
