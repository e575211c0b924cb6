"""Putting branches on a policy: every one lands, or nothing is touched."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from tests.toy_policy import FLOW_STEPS, toy_samples
from vla_export.adapters.apply import apply_exact
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.pi0 import Pi0
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput

SOURCE = "model.trained.language.layers.0.attention.q_proj"


def refused(policy: Pi0, files: Any, tensors: dict[str, torch.Tensor], modules: dict[str, str]) -> str:
    """The message, after making sure that the policy is as it was."""
    before = [(name, id(module)) for name, module in policy.named_modules()]
    with pytest.raises(BadInput) as caught:
        apply_exact(policy, read_lora_sp(files.write(tensors)), modules)
    assert [(name, id(module)) for name, module in policy.named_modules()] == before
    return str(caught.value)


def test_every_branch_lands_on_its_linear(policy: Pi0, files: Any) -> None:
    applied = apply_exact(policy, read_lora_sp(files.write(files.tensors())), files.modules)
    assert {layer.source: layer.path for layer in applied} == files.modules
    routed = {path for path, module in policy.named_modules() if isinstance(module, RoutedLinear)}
    assert routed == set(files.linears)
    for layer in applied:
        linear = files.linears[layer.path]
        assert (layer.in_features, layer.out_features) == (linear.in_features, linear.out_features)
        assert (layer.bank, layer.r) == (6, 2)
        assert layer.parameters == 6 * (2 * linear.in_features + linear.out_features)


def test_a_branch_with_zero_b_leaves_its_linear_alone(policy: Pi0, files: Any) -> None:
    """All but one linear of the adapter are untrained; where that one is not reached, nothing changes."""
    tensors = {key: torch.zeros_like(t) if key.endswith(".B") else t for key, t in files.tensors().items()}
    tensors["model.trained.action_out_proj.B"] = torch.ones(8, 6)
    (sample,) = toy_samples(1)
    before = policy.encode(sample.observed)
    actions = sample_actions(policy, sample, FLOW_STEPS)
    apply_exact(policy, read_lora_sp(files.write(tensors)), files.modules)
    after = policy.encode(sample.observed)
    assert all(torch.allclose(before[name].float(), after[name].float(), atol=1e-5) for name in before)
    assert not torch.allclose(actions, sample_actions(policy, sample, FLOW_STEPS), atol=1e-2)


def test_a_branch_that_matches_no_linear_is_named_with_its_neighbours(policy: Pi0, files: Any) -> None:
    modules = {source: path for source, path in files.modules.items() if source != SOURCE}
    message = refused(policy, files, files.tensors(), modules)
    assert f"{SOURCE} matches no linear" in message
    assert re.search(r"near: .*model\.trained\.language\.layers\.[1-5]\.attention\.q_proj", message)


def test_a_branch_for_another_width_is_named_with_both_shapes(policy: Pi0, files: Any) -> None:
    tensors = files.tensors()
    tensors[f"{SOURCE}.B"] = torch.ones(17, 6)
    message = refused(policy, files, tensors, files.modules)
    assert SOURCE in message
    assert "(17, 24)" in message
    assert "(16, 24)" in message


def test_two_branches_on_one_linear_are_refused(policy: Pi0, files: Any) -> None:
    modules = {**files.modules, SOURCE: files.modules["model.trained.language.layers.1.attention.q_proj"]}
    assert "are both the linear language.layers.1.attention.q_proj" in refused(policy, files, files.tensors(), modules)


def test_an_adapter_is_applied_once(policy: Pi0, files: Any) -> None:
    apply_exact(policy, read_lora_sp(files.write(files.tensors())), files.modules)
    assert "already carries an adapter" in refused(policy, files, files.tensors(), files.modules)


def test_a_branch_for_something_else_than_a_linear_is_refused(policy: Pi0, files: Any) -> None:
    modules = {**files.modules, SOURCE: "language.layers.0.input_norm"}
    assert "is a RMSNorm in the policy" in refused(policy, files, files.tensors(), modules)
