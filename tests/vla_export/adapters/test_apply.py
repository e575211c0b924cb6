"""Putting branches on a policy: every one lands, or nothing is touched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.toy_policy import FLOW_STEPS, toy_samples
from vla_export.adapters.adapter import Adapter, Branch, LinearUpdate, LowRank
from vla_export.adapters.apply import apply_exact
from vla_export.adapters.gating import EnergyGating
from vla_export.adapters.lora_sp import read_lora_sp
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.pi0 import Pi0
from vla_export.sample import sample_actions
from vla_runtime.errors import BadInput, WorkFailed

PATH = "language.layers.0.attention.q_proj"
SOURCE = f"model.trained.{PATH}"


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
        assert (layer.bank, layer.folded) == (6, False)
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


def adapter(update: LinearUpdate, source: str = SOURCE) -> Adapter:
    return Adapter(Path("some/adapter"), "test", {source: update})


def low_rank(policy: Pi0, scale: float = 0.1) -> LowRank:
    generator = torch.Generator().manual_seed(4)
    linear = policy.get_submodule(PATH)
    A, B = torch.randn(3, linear.in_features, generator=generator), torch.randn(16, 3, generator=generator)
    return LowRank(A, scale * B)


def test_a_fixed_update_folds_into_the_weight_and_the_linear_stays_one(policy: Pi0, files: Any) -> None:
    before = policy.get_submodule(PATH).weight.clone()
    part = low_rank(policy)
    (layer,) = apply_exact(policy, adapter(LinearUpdate(fixed=(part, part))), files.modules)
    linear = policy.get_submodule(PATH)
    assert type(linear) is nn.Linear
    torch.testing.assert_close(linear.weight, before + 2 * part.B @ part.A)
    assert (layer.folded, layer.bank, layer.parameters) == (True, 0, 0)


def test_a_fixed_update_beside_a_branch_folds_into_the_branchs_weight(policy: Pi0, files: Any) -> None:
    before = policy.get_submodule(PATH).weight.clone()
    part = low_rank(policy)
    branch = Branch(part.A, part.B, part.A, EnergyGating(3, 0.9, "released"))
    apply_exact(policy, adapter(LinearUpdate(fixed=(part,), branch=branch)), files.modules)
    routed = policy.get_submodule(PATH)
    assert isinstance(routed, RoutedLinear)
    torch.testing.assert_close(routed.base.weight, before + part.B @ part.A)


def test_a_half_weight_is_folded_in_float32_and_rounded_once(policy: Pi0, files: Any) -> None:
    linear = policy.get_submodule(PATH)
    original = linear.weight.clone()
    linear.half()
    part = low_rank(policy)
    apply_exact(policy, adapter(LinearUpdate(fixed=(part,))), files.modules, {f"{PATH}.weight": original}.__getitem__)
    assert torch.equal(policy.get_submodule(PATH).weight, (original + part.B @ part.A).half())


def test_a_half_weight_that_an_update_overflows_is_named(policy: Pi0, files: Any) -> None:
    policy.get_submodule(PATH).half()
    with pytest.raises(WorkFailed, match=rf"{PATH}.weight reaches .* beyond float16"):
        apply_exact(policy, adapter(LinearUpdate(fixed=(low_rank(policy, 1e6),))), files.modules)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_weights_an_adapter_was_trained_on_replace_the_same_ones(
    policy: Pi0, files: Any, dtype: torch.dtype
) -> None:
    linear = policy.get_submodule(PATH)
    own, part = linear.weight.to(dtype), low_rank(policy)
    apply_exact(policy, adapter(LinearUpdate(fixed=(part,), weight=own)), files.modules)
    torch.testing.assert_close(policy.get_submodule(PATH).weight, own.float() + part.B @ part.A)


def test_other_weights_than_those_an_adapter_was_trained_on_are_refused(policy: Pi0, files: Any) -> None:
    linear = policy.get_submodule(PATH)
    own = linear.weight * (1.0 + 0.01 * torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(1)))
    before = linear.weight.clone()
    with pytest.raises(BadInput, match=rf"{SOURCE} is not the weight the adapter was trained on.*1\.\d% off"):
        apply_exact(policy, adapter(LinearUpdate(fixed=(low_rank(policy),), weight=own)), files.modules)
    assert torch.equal(policy.get_submodule(PATH).weight, before)
