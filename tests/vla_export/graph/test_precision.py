"""Half precision keeps its float32 islands and refuses weights it cannot hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.vla_export.graph.conftest import random_policy, random_samples, route
from vla_export.graph.precision import half
from vla_export.sample import sample_actions
from vla_runtime.errors import WorkFailed

EDGES = {"state_proj", "action_in_proj", "action_out_proj", "action_time_mlp_in", "action_time_mlp_out"}


def halved(model):
    half(model)
    return model


@pytest.mark.parametrize("adapted", [False, True])
def test_products_are_half_and_the_rest_is_not(adapted):
    model = halved(route(random_policy()) if adapted else random_policy())
    products = (nn.Linear, nn.Conv2d, nn.Embedding)
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            expected = torch.float16 if isinstance(module, products) and path not in EDGES else torch.float32
            assert parameter.dtype is expected, path


def test_a_half_model_stays_as_it_is():
    model = halved(random_policy())
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.state_dict().items()}
    after = halved(model).state_dict()
    assert {name: tensor.data_ptr() for name, tensor in after.items()} == {n: place for n, (place, _) in before.items()}
    assert all(torch.equal(after[name], tensor) for name, (_, tensor) in before.items())


def test_weights_are_the_nearest_half_numbers():
    weight = halved(random_policy()).language.layers[0].mlp.up_proj.weight
    assert torch.equal(weight, random_policy().language.layers[0].mlp.up_proj.weight.half())


@pytest.mark.parametrize("adapted", [False, True])
def test_actions_stay_close(adapted):
    model = route(random_policy()) if adapted else random_policy()
    samples = random_samples(4)
    references = [sample_actions(model, sample, 10) for sample in samples]
    half(model)
    for sample, reference in zip(samples, references, strict=True):
        with torch.no_grad():
            found = model.sample(model.encode(sample.observed), sample.noise, 10)
        assert found.dtype is torch.float32
        assert (found - reference).norm() / reference.norm() < 2e-2


def test_only_the_prefix_changes_its_type():
    sample = random_samples(1)[0]
    model = halved(random_policy())
    with torch.no_grad():
        prefix = model.encode(sample.observed)
        chunk = model.denoise(sample.noise, torch.ones(1), torch.zeros(1), prefix)
    assert prefix.pop("prefix_mask").dtype is torch.bool
    assert {tensor.dtype for tensor in prefix.values()} == {torch.float16}
    assert chunk.dtype is torch.float32


@pytest.mark.parametrize("value", [7e4, -7e4])
def test_a_weight_beyond_half_is_named(value):
    model = random_policy()
    model.expert.layers[1].mlp.up_proj.weight[2, 3] = value
    with pytest.raises(WorkFailed, match=r"expert\.layers\.1\.mlp\.up_proj\.weight reaches 7e\+04"):
        half(model)


def test_a_tensor_that_half_flushes_to_zero_is_named():
    model = random_policy()
    model.vision.stack.layers[0].mlp.fc1.weight.mul_(1e-7)
    with pytest.raises(WorkFailed, match=r"vision\.stack\.layers\.0\.mlp\.fc1\.weight is too small for float16"):
        half(model)


def test_single_tiny_weights_and_zeros_are_no_error():
    model = random_policy()
    model.expert.layers[0].mlp.up_proj.weight[0, :4] = 1e-9
    model.expert.layers[0].mlp.down_proj.weight.zero_()
    half(model)


def test_edges_may_be_as_large_as_they_like():
    model = random_policy()
    model.action_out_proj.weight[0, 0] = 1e5
    assert halved(model).action_out_proj.weight[0, 0] == 1e5
