"""A model in half precision computes in float32 within the context, and is what it was after it."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.vla_export.graph.conftest import random_policy, random_samples, route
from vla_export.float32 import float32
from vla_export.graph.precision import half
from vla_export.models.pi0 import Pi0
from vla_export.prune.surgery import remove_layers
from vla_export.sample import sample_actions


def rounded(model: Pi0) -> tuple[Pi0, Pi0]:
    """A half model, and a float32 one with the same numbers."""
    half(model)
    return model, copy.deepcopy(model).float()


def actions(model: Pi0, count: int = 2) -> list[torch.Tensor]:
    with torch.no_grad():
        return [model.sample(model.encode(s.observed), s.noise, 10) for s in random_samples(count)]


@pytest.mark.parametrize("adapted", [False, True])
def test_half_weights_in_float32_arithmetic_are_a_float32_model(adapted: bool) -> None:
    halved, reference = rounded(route(random_policy()) if adapted else random_policy())
    expected = actions(reference)
    in_half = actions(halved)
    with float32(halved):
        found = actions(halved)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(in_half, expected, strict=True))


def test_the_prefix_is_float32_too() -> None:
    halved, reference = rounded(random_policy())
    observed = random_samples(1)[0].observed
    with torch.no_grad(), float32(halved):
        prefix = halved.encode(observed)
    with torch.no_grad():
        assert all(torch.equal(tensor, prefix[name]) for name, tensor in reference.encode(observed).items())
    assert {tensor.dtype for name, tensor in prefix.items() if name != "prefix_mask"} == {torch.float32}


def test_originals_take_the_place_of_rounded_weights() -> None:
    model = random_policy()
    before = actions(model)
    originals = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    half(model)
    with float32(model, originals.__getitem__):
        found = actions(model)
    assert all(torch.equal(a, b) for a, b in zip(found, before, strict=True))
    with float32(model):
        assert not any(torch.equal(a, b) for a, b in zip(actions(model), before, strict=True))


@pytest.mark.parametrize("fails", [False, True])
def test_afterwards_the_model_is_what_it_was(fails: bool) -> None:
    halved, _ = rounded(random_policy())
    before = dict(halved.named_parameters())
    addresses = {name: parameter.data_ptr() for name, parameter in before.items()}
    try:
        with float32(halved):
            if fails:
                raise RuntimeError("the work failed")
    except RuntimeError:
        assert fails
    after = dict(halved.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert {name: parameter.data_ptr() for name, parameter in after.items()} == addresses
    assert torch.float16 in {parameter.dtype for parameter in after.values()}


def test_a_float32_model_is_left_alone() -> None:
    model = random_policy()
    before = dict(model.named_parameters())
    with float32(model, lambda name: pytest.fail(f"{name} was read")):
        actions(model)
        assert all(parameter is before[name] for name, parameter in model.named_parameters())


def test_layers_may_be_removed_within() -> None:
    halved, reference = rounded(random_policy())
    with float32(halved):
        remove_layers(halved, {"language": [0], "expert": [0]})
        found = actions(halved)
    remove_layers(reference, {"language": [0], "expert": [0]})
    assert all(torch.equal(a, b) for a, b in zip(found, actions(reference), strict=True))
    assert all(not type(parameter.data).__name__.startswith("Float32") for parameter in halved.parameters())


def test_an_embeddings_rows_alone_are_converted() -> None:
    table = torch.nn.Embedding(10, 4).half()
    read = []

    def original(name: str) -> torch.Tensor:
        read.append(name)
        return torch.arange(40.0).view(10, 4).bfloat16()

    with float32(table, original), torch.no_grad():
        rows = table(torch.tensor([3, 1]))
    assert rows.dtype is torch.float32
    assert rows.tolist() == [[12.0, 13.0, 14.0, 15.0], [4.0, 5.0, 6.0, 7.0]]
    assert read == ["weight"]


def test_every_measurement_is_in_float32() -> None:
    halved, reference = rounded(random_policy())
    for sample in random_samples(2):
        assert torch.equal(sample_actions(halved, sample, 10), sample_actions(reference, sample, 10))
