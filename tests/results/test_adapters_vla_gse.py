from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from results.adapters.vla_gse import (
    HEAD,
    VLAGSELinear,
    VLAGSESettings,
    active_ranks,
    extra_loss,
    head_parameters,
    trained_parameters,
    wrap,
)
from results.adapters.wrapping import adapted_linears
from tests.naive_adapters import gse, softmax, times
from tests.results.toy_adapters import CONFIG, flow, parameters, toy, train, velocity

SETTINGS = VLAGSESettings(r=7, num_experts=5)
WIDE, NARROW = 9, 8


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(seed: int = 1) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(WIDE, NARROW).requires_grad_(False)


def adapted(settings: VLAGSESettings = SETTINGS, seed: int = 1) -> VLAGSELinear:
    return VLAGSELinear(plain(seed), settings, generator(seed))


def tokens(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, WIDE, generator=generator(seed))


def experts(linear: VLAGSELinear) -> tuple[list[Tensor], list[Tensor]]:
    ranks = list(linear.settings.ranks)
    return list(torch.split(linear.A.detach(), ranks)), list(torch.split(linear.B.detach(), ranks, dim=1))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**16), count=st.integers(2, 7), generalised=st.integers(0, 3), top_k=st.integers(1, 4)
)  # fmt: skip
def test_a_linear_equals_the_loops_of_the_release(seed: int, count: int, generalised: int, top_k: int) -> None:
    generalised = min(generalised, count - 1)
    linear = adapted(VLAGSESettings(7, count, generalised, top_k), seed)
    x = tokens(seed, 2, 3)
    with torch.no_grad():
        linear.router.weight.mul_(5.0)
        found, base = linear(x), linear.base(x)
    A, B = ([matrix.tolist() for matrix in matrices] for matrices in experts(linear))
    scales, router = linear.scaling.tolist(), linear.router.weight.tolist()
    for y, w, token in zip(found.flatten(0, 1), base.flatten(0, 1), x.flatten(0, 1).tolist(), strict=True):
        update = gse(token, A, B, scales, router, generalised, min(top_k, count - generalised))
        torch.testing.assert_close(y, w + torch.tensor(update), rtol=1e-4, atol=1e-5)


def test_experts_begin_as_a_tenth_of_the_singular_directions_in_turn_taken_out_of_the_base() -> None:
    weight = plain().weight.detach().clone()
    linear = adapted()
    values = torch.linalg.svdvals(weight)
    taken = torch.zeros_like(weight)
    first = 0
    for A, B, scale, rank in zip(*experts(linear), linear.scaling, SETTINGS.ranks, strict=True):
        torch.testing.assert_close(
            torch.linalg.svdvals(scale * B @ A)[:rank], values[first : first + rank] / 10, rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close((B.norm(dim=0)), A.norm(dim=1), rtol=1e-4, atol=1e-6)
        taken += scale * B @ A
        first += rank
    assert first == SETTINGS.r
    torch.testing.assert_close(linear.base.weight + taken, weight)


def test_scales_balance_the_specialised_experts() -> None:
    linear = adapted(VLAGSESettings(r=8, num_experts=4, num_generalized_experts=1, base_scale=3.0))
    values = torch.linalg.svdvals(plain().weight)
    traces = torch.stack([part.sum() for part in torch.split(values, [2, 2, 2, 2])])
    assert float(linear.scaling[0]) == pytest.approx((3 * WIDE / 2) ** 0.5)
    torch.testing.assert_close(linear.scaling[1:] * traces[1:], (3.0 * traces[1:].mean()).expand(3))


@given(r=st.integers(8, 200))
def test_ranks_are_shared_evenly(r: int) -> None:
    ranks = VLAGSESettings(r=r).ranks
    assert sum(ranks) == r
    assert ranks == tuple(sorted(ranks, reverse=True))
    assert ranks[0] - ranks[-1] <= 1


def test_a_linear_that_is_too_small_stays_as_it_is() -> None:
    model = toy()
    keys = CONFIG.language.head_dim  # what k_proj and v_proj have for outputs
    wrapped = wrap(model, VLAGSESettings(r=keys + 1), generator())
    assert {path.rpartition(".")[2] for path in wrapped} == {"q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(wrap(toy(), VLAGSESettings(r=keys), generator())) == len(wrapped) * 7 / 5


def test_training_changes_experts_routers_and_the_head_alone() -> None:
    model = toy()
    wrapped = wrap(model, SETTINGS, generator())
    before = parameters(model)
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers()}
    train(model, extra_loss, 2)
    changed = {name for name, tensor in parameters(model).items() if not torch.equal(tensor, before[name])}
    assert all(torch.equal(tensor, buffers[name]) for name, tensor in model.named_buffers())
    inside = {name for name in changed if name.startswith(("language.", "expert."))}
    assert {name.rpartition("_proj.")[2] for name in inside} == {"A", "B", "router.weight"}
    assert {name.partition(".")[0] for name in changed - inside} == set(HEAD)
    assert trained_parameters(model) == sum(
        SETTINGS.r * (m.base.in_features + m.base.out_features) + 4 * m.base.in_features
        for _, m in adapted_linears(model, VLAGSELinear)
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained_parameters(model) + head_parameters(model) == trained
    assert active_ranks(model) == dict.fromkeys(wrapped, 2 + 2 * 5 / 4)


def test_the_balancing_loss_is_that_of_the_formula() -> None:
    linear, x = adapted(), tokens(4, 2, 8)
    with torch.no_grad():
        linear.router.weight.mul_(5.0)
    linear(x[:1])
    linear(x[1:])
    count, used, probable = 16, [0.0] * 4, [0.0] * 4
    for token in x.flatten(0, 1).tolist():
        p = softmax(times(linear.router.weight.tolist(), token))
        for n in sorted(range(4), key=lambda n: -p[n])[:2]:
            used[n] += 1 / count
        probable = [a + b / count for a, b in zip(probable, p, strict=True)]
    expected = 4 * sum(f * p for f, p in zip(used, probable, strict=True))
    assert float(linear.take_loss().detach()) == pytest.approx(expected, rel=1e-4)
    assert float(linear.take_loss()) == 0.0


def test_the_balancing_loss_is_higher_where_all_tokens_go_to_the_same_experts() -> None:
    linear = adapted()
    with torch.no_grad():
        linear.router.weight.zero_()
        linear.router.weight[:2, 0] = 3.0
    x = tokens(4, 64)
    x[:, 0] = 1.0
    optimiser = torch.optim.Adam([linear.router.weight], lr=0.1)
    losses = []
    for _ in range(200):
        linear(x)
        losses.append(linear.take_loss())
        optimiser.zero_grad()
        torch.autograd.backward(losses[-1])
        optimiser.step()
    assert float(losses[0].detach()) > 3.5  # of at most S = 4
    assert float(losses[-1].detach()) < 2.3  # and k = 2 where every expert is used as much


def test_the_weighted_losses_of_all_linears_add_up() -> None:
    model = toy()
    wrap(model, SETTINGS, generator())
    velocity(model)
    assert float(extra_loss(model)) == 0.0
    flow(model)
    found = float(extra_loss(model).detach())
    flow(model)
    expected = 0.01 * sum(float(linear.take_loss().detach()) for _, linear in adapted_linears(model, VLAGSELinear))
    assert found == pytest.approx(expected, rel=1e-5)
    assert found > 0.0
