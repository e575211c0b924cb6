from __future__ import annotations

import torch
from torch import nn

from reference.architecture import SIZES
from results.adapters import lora, lora_sp, vla_gse
from results.adapters.wrapping import adapted_linears
from tests.results.toy_adapters import LINEARS, flow, parameters, toy, train, velocity
from vla_export.models.pi0 import Pi0

SETTINGS = lora.LoRASettings(rank=4, alpha=6)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_a_linear_computes_w_x_and_the_update() -> None:
    base = nn.Linear(5, 3)
    linear = lora.LoRALinear(base, SETTINGS, generator())
    nn.init.normal_(linear.B)
    x = torch.randn(2, 7, 5)
    expected = base(x) + 1.5 * (x @ linear.A.T) @ linear.B.T
    torch.testing.assert_close(linear(x), expected)


def test_wrapping_changes_nothing_until_it_is_trained() -> None:
    model = toy()
    before = velocity(model)
    wrapped = lora.wrap(model, SETTINGS, generator())
    assert len(wrapped) == LINEARS
    assert {path.partition(".")[0] for path in wrapped} == {"language", "expert"}
    assert torch.equal(velocity(model), before)
    train(model, lora.extra_loss, 2)
    assert not torch.allclose(velocity(model), before, atol=1e-3)


def test_training_changes_the_adapter_alone() -> None:
    model = toy()
    lora.wrap(model, SETTINGS, generator())
    before = parameters(model)
    train(model, lora.extra_loss, 2)
    changed = {name for name, tensor in parameters(model).items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.endswith((".A", ".B")) for name in changed)


def test_there_is_no_loss_of_its_own() -> None:
    model = toy()
    lora.wrap(model, SETTINGS, generator())
    torch.autograd.backward(flow(model))
    assert float(lora.extra_loss(model)) == 0.0
    assert set(lora.active_ranks(model).values()) == {4.0}


def test_the_defaults_of_the_three_methods_train_as_many_parameters() -> None:
    counts = []
    for wrap, count in (
        (lambda model: lora.wrap(model, lora.LoRASettings(), generator()), lora.trained_parameters),
        (lambda model: lora_sp.wrap(model, lora_sp.LoRASPSettings(), generator()), lora_sp.trained_parameters),
        (lambda model: vla_gse.wrap(model, vla_gse.VLAGSESettings(), generator()), vla_gse.trained_parameters),
    ):
        model = Pi0(SIZES)
        wrap(model)
        counts.append(count(model))
    assert max(counts) < 1.01 * min(counts)


def test_trained_parameters_are_the_entries_of_a_and_b() -> None:
    model = toy()
    lora.wrap(model, SETTINGS, generator())
    sizes = [m.base.in_features + m.base.out_features for _, m in adapted_linears(model, lora.LoRALinear)]
    assert lora.trained_parameters(model) == 4 * sum(sizes)
