from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from results.adapters.lora_sp import (
    LoRASPLinear,
    LoRASPSettings,
    active_ranks,
    extra_loss,
    kept,
    trained_parameters,
    wrap,
)
from results.adapters.wrapping import adapted_linears
from tests.naive_adapters import kept_by_energy, lora_sp, softmax, times
from tests.results.toy_adapters import LINEARS, flow, parameters, toy, train, velocity
from vla_export.adapters.gating import kept_directions

SETTINGS = LoRASPSettings(r=2, alpha=3, num_experts=3, threshold=0.8)
WIDE, NARROW = 5, 4


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def adapted(settings: LoRASPSettings = SETTINGS, seed: int = 1) -> LoRASPLinear:
    torch.manual_seed(seed)
    linear = LoRASPLinear(nn.Linear(WIDE, NARROW).requires_grad_(False), settings, generator(seed))
    nn.init.normal_(linear.B)
    return linear


def tokens(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, WIDE, generator=generator(seed))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**16), threshold=st.floats(0.05, 0.99))
def test_a_linear_equals_the_loops_of_the_release(seed: int, threshold: float) -> None:
    linear = adapted(LoRASPSettings(r=2, alpha=3, num_experts=3, threshold=threshold), seed)
    x = tokens(seed, 2, 3)
    with torch.no_grad():
        found = linear(x)
        A, B, router = (matrix.tolist() for matrix in (linear.A, linear.B, linear.router.weight))
        base = linear.base(x)
    for y, w, token in zip(found.flatten(0, 1), base.flatten(0, 1), x.flatten(0, 1).tolist(), strict=True):
        update = lora_sp(token, A, B, times(router, token), 1.5, threshold, "released")
        torch.testing.assert_close(y, w + torch.tensor(update), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**16), threshold=st.floats(0.05, 0.99), bank=st.integers(1, 40))
def test_what_is_kept_is_what_the_export_keeps(seed: int, threshold: float, bank: int) -> None:
    scores = torch.randn(2, 9, bank, generator=generator(seed))
    assert torch.equal(kept(scores, threshold), kept_directions(scores, threshold, "released"))


def test_wrapping_changes_nothing_until_it_is_trained() -> None:
    model = toy()
    before = velocity(model)
    assert len(wrap(model, SETTINGS, generator())) == LINEARS
    torch.testing.assert_close(velocity(model), before, rtol=0, atol=1e-6)
    train(model, extra_loss, 2)
    assert not torch.allclose(velocity(model), before, atol=1e-3)


def test_training_changes_the_adapter_alone() -> None:
    model = toy()
    wrap(model, SETTINGS, generator())
    before = parameters(model)
    train(model, extra_loss, 2)
    changed = {name for name, tensor in parameters(model).items() if not torch.equal(tensor, before[name])}
    assert {name.rpartition("_proj.")[2] for name in changed} == {"A", "B", "router.weight"}
    sizes = [2 * m.base.in_features + m.base.out_features for _, m in adapted_linears(model, LoRASPLinear)]
    assert trained_parameters(model) == SETTINGS.bank * sum(sizes)


def test_the_losses_are_those_of_the_formulas() -> None:
    linear, x = (
        adapted(LoRASPSettings(r=2, alpha=3, num_experts=3, threshold=0.8, spectral=1.0, router=10.0)),
        tokens(4, 2, 8),
    )
    linear(x)
    rows = [times(linear.router.weight.tolist(), token) for token in x.flatten(0, 1).tolist()]
    held = energy = z = 0.0
    gates, largest = [0.0] * 6, [0.0] * 6
    for scores in rows:
        chosen = [s if n in kept_by_energy(scores, 0.8, "released") else 0.0 for n, s in enumerate(scores)]
        held += sum(s * s for s in chosen)
        energy += sum(s * s for s in scores)
        z += math.log1p(min(max(math.log(sum(math.exp(s) for s in scores)), 0.0), 10.0))
        gates = [g + p for g, p in zip(gates, softmax(chosen), strict=True)]
        largest[chosen.index(max(chosen))] += 1
    count = len(rows)
    balance = 6 * sum(f * p for f, p in zip(largest, gates, strict=True)) / count**2
    assert float(linear.take_loss().detach()) == pytest.approx(1 - held / energy + 10 * (balance + z / count), rel=1e-4)


def test_the_losses_train_the_router_and_what_comes_before_not_a_and_b() -> None:
    linear = adapted()
    x = tokens(4, 2, 8).requires_grad_()
    linear(x)
    torch.autograd.backward(linear.take_loss())
    assert linear.A.grad is None or not linear.A.grad.any()
    assert linear.B.grad is None
    for reached in (linear.router.weight.grad, x.grad):
        assert reached is not None
        assert reached.any()


def test_the_spectral_loss_concentrates_the_scores_on_few_directions() -> None:
    linear = adapted(LoRASPSettings(r=8, alpha=16, num_experts=4, spectral=1.0, router=0.0))
    x = tokens(5, 64) + 1.0
    optimiser = torch.optim.Adam([linear.router.weight], lr=0.01)
    ranks = []
    for _ in range(200):
        linear(x)
        ranks.append(float(linear.active))
        optimiser.zero_grad()
        torch.autograd.backward(linear.take_loss())
        optimiser.step()
    assert ranks[-1] < ranks[0] / 4


def test_two_calls_count_as_one_of_all_their_tokens() -> None:
    linear, x = adapted(), tokens(6, 10)
    linear(x)
    together = float(linear.take_loss().detach())
    linear(x[:3])
    linear(x[3:])
    assert float(linear.take_loss().detach()) == pytest.approx(together, rel=1e-5)
    assert float(linear.take_loss()) == 0.0


def test_a_loss_of_no_weight_is_not_there() -> None:
    linear = adapted(LoRASPSettings(r=2, alpha=3, num_experts=3, spectral=0.0, router=0.0))
    linear(tokens(6, 10))
    assert float(linear.take_loss()) == 0.0


def test_losses_are_gathered_in_training_alone_so_that_a_copy_can_be_made() -> None:
    model = toy()
    wrap(model, SETTINGS, generator())
    velocity(model)
    assert float(extra_loss(model)) == 0.0
    flow(model)
    first = float(extra_loss(model).detach())
    assert first > 0.0
    average = copy.deepcopy(model).eval()
    flow(average)
    assert float(extra_loss(average)) == 0.0


def test_active_ranks_are_the_mean_over_tokens() -> None:
    model = toy()
    paths = wrap(model, LoRASPSettings(r=2, alpha=3, num_experts=3, threshold=1e-6), generator())
    velocity(model)
    assert active_ranks(model) == dict.fromkeys(paths, 1.0)
    linear, x = adapted(), tokens(7, 2, 6)
    linear(x)
    rows = [times(linear.router.weight.tolist(), token) for token in x.flatten(0, 1).tolist()]
    counts = [len(kept_by_energy(scores, SETTINGS.threshold, "released")) for scores in rows]
    assert float(linear.active) == pytest.approx(sum(counts) / len(counts))
