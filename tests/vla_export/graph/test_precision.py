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


@pytest.mark.parametrize("adapted", [False, True])
def test_products_are_half_and_the_rest_is_not(adapted):
    model = route(random_policy()) if adapted else random_policy()
    halved = half(model)
    products = (nn.Linear, nn.Conv2d, nn.Embedding)
    for path, module in halved.named_modules():
        for parameter in module.parameters(recurse=False):
            expected = torch.float16 if isinstance(module, products) and path not in EDGES else torch.float32
            assert parameter.dtype is expected, path


def test_the_model_itself_is_left_alone():
    model = random_policy()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    halved = half(model)
    for parameter in halved.parameters():
        parameter.zero_()
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) and tensor.dtype is torch.float32 for name, tensor in before.items())


def test_weights_are_the_nearest_half_numbers():
    model = random_policy()
    weight = half(model).language.layers[0].mlp.up_proj.weight
    assert torch.equal(weight, model.language.layers[0].mlp.up_proj.weight.half())


@pytest.mark.parametrize("adapted", [False, True])
def test_actions_stay_close(adapted):
    model = route(random_policy()) if adapted else random_policy()
    halved = half(model)
    for sample in random_samples(4):
        reference = sample_actions(model, sample, 10)
        found = sample_actions(halved, sample, 10)
        assert found.dtype is torch.float32
        assert (found - reference).norm() / reference.norm() < 2e-2


def test_only_the_prefix_changes_its_type():
    sample = random_samples(1)[0]
    halved = half(random_policy())
    with torch.no_grad():
        prefix = halved.encode(sample.observed)
        chunk = halved.denoise(sample.noise, torch.ones(1), torch.zeros(1), prefix)
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
    assert half(model).action_out_proj.weight[0, 0] == 1e5
