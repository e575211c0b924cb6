"""Folding an affine map into a weight, and trying it beside the weight."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.toy_policy import FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.adapters.routed_toys import answers, random_branch, route
from vla_export.adapters.least_squares import Affine
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.adapters.static_fit import fit_static, routed_linears
from vla_export.adapters.static_linear import folded, replace, switched
from vla_export.graph.precision import half, half_parameters
from vla_export.models.pi0 import Pi0
from vla_runtime.errors import WorkFailed


def routed(bias: bool, dtype: torch.dtype = torch.float32) -> tuple[RoutedLinear, Affine]:
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(8, 5, bias=bias).requires_grad_(False)
    nn.init.normal_(linear.weight, std=8**-0.5, generator=generator)
    branch = random_branch(linear, generator, 0.3)
    affine = Affine(torch.randn(6, 8, generator=generator), torch.randn(6, generator=generator))
    return RoutedLinear(linear.to(dtype), branch), affine


@pytest.mark.parametrize("bias", [True, False])
def test_folded_is_the_linear_plus_the_affine_branch(bias: bool) -> None:
    linear, affine = routed(bias)
    plain = folded("here", linear, affine)
    x = torch.randn(7, 8)
    expected = linear.base(x) + (x @ affine.matrix.T + affine.offset) @ linear.branch.B.T
    torch.testing.assert_close(plain(x), expected)
    assert type(plain) is nn.Linear
    assert not any(parameter.requires_grad for parameter in plain.parameters())


def test_half_stored_weights_are_added_in_float32_and_rounded_once() -> None:
    linear, affine = routed(True, torch.float16)
    plain = folded("here", linear, affine)
    base, B = linear.base, linear.branch.B.double()
    exact = base.weight.double() + B @ affine.matrix.double(), base.bias.double() + B @ affine.offset.double()
    assert plain.weight.dtype is plain.bias.dtype is torch.float16
    for found, whole in zip((plain.weight, plain.bias), exact, strict=True):
        assert ((found.double() - whole).abs() <= 2.0**-11 * whole.abs() + 1e-6).all()


def test_a_sum_that_float16_cannot_hold_is_an_error() -> None:
    linear, affine = routed(True, torch.float16)
    with pytest.raises(WorkFailed, match=r"here\.weight reaches .*beyond float16"):
        folded("here", linear, Affine(affine.matrix * 1e6, affine.offset))


@pytest.fixture(params=[False, True], ids=["float32", "float16"])
def model(request: pytest.FixtureRequest) -> Pi0:
    policy = toy_policy()
    route(policy, kinds=("v_proj", "down_proj", "state_proj"))
    if request.param:
        half(policy)
    return policy


def test_tried_is_what_folding_leaves(model: Pi0) -> None:
    samples = toy_samples(2)
    fits = fit_static(model, samples, samples, FLOW_STEPS)
    affines = {path: fit.affine for path, fit in fits.items()}
    some = [path for path in fits if path.endswith("v_proj")]
    before = answers(model, samples, FLOW_STEPS)
    with switched(model, affines) as switch:
        tried = {}
        for name, static in (("none", []), ("some", some), ("all", list(fits))):
            switch(static)
            tried[name] = answers(model, samples, FLOW_STEPS)
    assert all(torch.equal(a, b) for a, b in zip(before, tried["none"], strict=True))
    after = answers(model, samples, FLOW_STEPS)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))

    linears = routed_linears(model)
    for name, paths in (("some", some), ("all", [path for path in fits if path not in some])):
        for path in paths:
            replace(model, path, folded(path, linears[path], affines[path]))
        merged = answers(model, samples, FLOW_STEPS)
        for a, b, c in zip(tried[name], merged, before, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            assert float((b - c).abs().max()) > 1e-3
    assert not routed_linears(model)
    if any(parameter.dtype is torch.float16 for parameter in model.parameters()):
        assert all(model.get_parameter(name).dtype is torch.float16 for name in half_parameters(model))
