"""Virtual gates against the formula they stand for, against finite differences, and on layers known to do nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.toy_policy import DEPTH, FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.models.tiny_families import FAMILIES, random_samples
from vla_export.models.blocks import GatedMLP, Layer
from vla_export.models.flow_model import FlowModel
from vla_export.prune.gate import PROBES, gate_gradients, sensitivities
from vla_export.sample import Sample, sample_actions
from vla_runtime.errors import WorkFailed

NUMBERS = 7


def demonstrated(samples: list[Sample]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(sample.noise.shape, generator=generator) for sample in samples]


def flow_loss(model: FlowModel, sample: Sample, actions: Tensor) -> Tensor:
    """‖v(x_t, t) - (noise - actions)‖² over the used numbers, averaged over horizon, numbers and flow times."""
    prefix = model.encode(sample.observed)
    losses = []
    for step in range(FLOW_STEPS):
        t = torch.tensor([1 - step / FLOW_STEPS])
        noisy = t * sample.noise + (1 - t) * actions
        error = model.velocity(noisy, t, prefix) - (sample.noise - actions)
        losses.append((error[..., :NUMBERS] ** 2).mean())
    return torch.stack(losses).mean()


def by_hand(model: FlowModel, name: str, loss: Callable[[], Tensor]) -> list[float]:
    """<dL/dh_i, h_i - h_{i-1}> of every layer, summed over every time it runs, from autograd's own dL/dh_i."""
    runs: list[list[tuple[Tensor, Tensor]]] = [[] for _ in model.stacks()[name]]

    def note(index: int) -> Callable[..., None]:
        def hook(layer: Layer, args: tuple[Tensor, ...], output: tuple[Tensor, object]) -> None:
            if output[0].requires_grad:
                output[0].retain_grad()
            runs[index].append((args[0], output[0]))

        return hook

    model.requires_grad_(True)
    handles = [layer.register_forward_hook(note(n)) for n, layer in enumerate(model.stacks()[name])]
    with torch.enable_grad():
        loss().backward()  # type: ignore[no-untyped-call]  # torch's own
    for handle in handles:
        handle.remove()
    model.requires_grad_(False)
    return [
        sum(0.0 if out.grad is None else float((out.grad * (out - into).detach()).sum()) for into, out in layer)
        for layer in runs
    ]


def faded(layer: Layer, evaluate: Callable[[], Tensor]) -> list[Tensor]:
    """What is evaluated where the layer adds 1.01 and 0.99 of what it does."""
    found = []
    for size in (1.01, 0.99):

        def fade(_: object, args: tuple[Tensor, ...], out: tuple[Tensor, object], size: float = size) -> object:
            return args[0] + size * (out[0] - args[0]), out[1]

        handle = layer.register_forward_hook(fade)
        found.append(evaluate())
        handle.remove()
    return found


def test_a_gates_derivative_is_the_formula_over_all_tokens_and_flow_steps() -> None:
    samples = toy_samples(2)
    actions = demonstrated(samples)
    found = gate_gradients(toy_policy(), ("language", "expert"), samples, FLOW_STEPS, NUMBERS, actions)
    for name in ("language", "expert"):
        assert found[name].shape == (2, DEPTH)
        for row, sample, chunk in zip(found[name], samples, actions, strict=True):
            model = toy_policy()
            expected = by_hand(model, name, lambda m=model, s=sample, a=chunk: flow_loss(m, s, a))  # type: ignore[misc]
            torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_gate_is_the_slope_of_the_loss_as_the_layer_fades(family: str) -> None:
    """Central differences of the loss in the size of what one layer of each stack adds; adaptive layers included."""
    samples = random_samples(family, 1)
    actions = demonstrated(samples)
    model = FAMILIES[family]()
    found = gate_gradients(model, ("language", "expert"), samples, FLOW_STEPS, NUMBERS, actions)
    for name in ("language", "expert"):
        layer = list(model.stacks()[name])[1]
        more, less = faded(layer, lambda: flow_loss(model, samples[0], actions[0]).double())
        slope = float((more - less) / 0.02)
        assert abs(slope) > 2e-4
        assert float(found[name][0, 1]) == pytest.approx(slope, rel=0.05)


def test_without_actions_it_measures_how_far_the_sampled_chunk_moves() -> None:
    samples = toy_samples(1)
    found = gate_gradients(toy_policy(), ("expert",), samples * 30, FLOW_STEPS, NUMBERS)["expert"]
    assert found.shape == (30 * PROBES, DEPTH)
    model, moved = toy_policy(), []
    for layer in model.expert:
        more, less = faded(layer, lambda: sample_actions(model, samples[0], FLOW_STEPS))
        moved.append(float(((more - less)[..., :NUMBERS] / 0.02).square().mean().sqrt()))
    expected = torch.tensor(moved) * (2 / torch.pi) ** 0.5
    torch.testing.assert_close(torch.tensor(sensitivities([found])), expected, rtol=0.25, atol=0)


@pytest.mark.parametrize("known", [True, False], ids=["demonstrated", "sampled"])
def test_layers_that_do_nothing_have_no_score(known: bool) -> None:
    model, samples = toy_policy(), toy_samples(2)
    for index in (1, 4):
        for stack in (model.language, model.expert):
            layer = list(stack)[index]
            layer.attention.o_proj.weight.zero_()
            assert isinstance(layer.mlp, GatedMLP)
            layer.mlp.down_proj.weight.zero_()
    actions = demonstrated(samples) if known else None
    gradients = gate_gradients(model, ("language", "expert"), samples, FLOW_STEPS, NUMBERS, actions)
    scores = sensitivities(list(gradients.values()))
    assert [n for n, score in enumerate(scores) if score == 0.0] == [1, 4]
    # What leaves the last language layer is read by nobody.
    assert sensitivities([gradients["language"]])[-1] == 0.0


def test_effects_of_layers_that_go_together_do_not_cancel() -> None:
    one, other = torch.tensor([[1.0, 2.0], [-3.0, 1.0]]), torch.tensor([[-1.0, 1.0], [1.0, 0.5]])
    assert sensitivities([one]) == (2.0, 1.5)
    assert sensitivities([one, other]) == (3.0, 2.25)


def test_the_model_is_as_it_was() -> None:
    model, samples = toy_policy(), toy_samples(1)
    layers = [id(layer) for stack in model.stacks().values() for layer in stack]
    with torch.no_grad():
        gate_gradients(model, ("language", "expert"), samples, FLOW_STEPS, NUMBERS)
    assert [id(layer) for stack in model.stacks().values() for layer in stack] == layers
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in model.parameters())


def test_a_loss_that_is_no_number_is_an_error() -> None:
    samples = toy_samples(1)
    actions = [torch.full_like(samples[0].noise, torch.nan)]
    with pytest.raises(WorkFailed, match="stack language: the loss has no finite derivative"):
        gate_gradients(toy_policy(), ("language",), samples, FLOW_STEPS, NUMBERS, actions)
