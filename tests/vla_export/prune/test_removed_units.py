"""A policy that channels and heads were taken out of computes what it did with their outputs masked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.toy_policy import toy_policy, toy_samples
from tests.vla_export.adapters.routed_toys import route
from tests.vla_export.models.tiny_families import pi05, random_samples, relative_error, smolvla
from vla_export.adapters.gating import EnergyGating, ExpertGating
from vla_export.adapters.routed_linear import RoutedLinear
from vla_export.models.blocks import Layer
from vla_export.models.flow_model import FlowModel
from vla_export.prune.channels import channels, keep_channels
from vla_export.prune.heads import keep_heads
from vla_export.prune.narrowing import narrow
from vla_export.prune.surgery import keep_memory
from vla_export.prune.width import keep_units
from vla_export.sample import Sample

FLOW_STEPS = 2
KINDS = ("mlp", "heads")
Kept = dict[str, list[list[int]]]


def routed(model: FlowModel) -> FlowModel:
    """With an exact branch on every linear of every stack, whose gates are smooth: rounding selects nothing else."""
    route(model, size=0.1, kinds=("_proj", "fc1", "fc2"), gating=ExpertGating([1] * 6, None))
    return model


def biased(model: FlowModel) -> FlowModel:
    """With a bias on every linear of every stack, as adapters that were folded leave behind."""
    generator = torch.Generator().manual_seed(5)
    for path, linear in model.named_modules():
        if isinstance(linear, nn.Linear) and ".layers." in path:
            linear.bias = nn.Parameter(torch.randn(linear.out_features, generator=generator), requires_grad=False)
    return model


POLICIES: dict[str, Callable[[], tuple[FlowModel, Sample]]] = {
    "pi0": lambda: (toy_policy(), toy_samples(1)[0]),
    "pi0, routed": lambda: (routed(toy_policy()), toy_samples(1)[0]),
    "pi0, biased": lambda: (biased(toy_policy()), toy_samples(1)[0]),
    "pi05": lambda: (pi05(), random_samples("pi05", 1)[0]),
    "smolvla": lambda: (smolvla(), random_samples("smolvla", 1)[0]),
    "smolvla, routed": lambda: (routed(smolvla()), random_samples("smolvla", 1)[0]),
}


@pytest.fixture(scope="module", params=POLICIES)
def policy(request: pytest.FixtureRequest) -> tuple[FlowModel, Sample]:
    return POLICIES[request.param]()


def units(layer: Layer, kind: str) -> int:
    return layer.attention.heads if kind == "heads" else channels(layer.mlp)


def keep_sets(model: FlowModel) -> st.SearchStrategy[Kept]:
    """Any units of any layers of every stack, the action expert's too, one at least of each layer."""
    return st.fixed_dictionaries(
        {
            f"{name}.{kind}": st.tuples(
                *(st.sets(st.integers(0, units(layer, kind) - 1), min_size=1).map(sorted) for layer in stack)
            ).map(list)
            for name, stack in model.stacks().items()
            for kind in KINDS
        }
    )


def mask(model: FlowModel, module: str, kept: list[list[int]]) -> None:
    """Zero what the other units give to the linear that reads them."""
    stack, kind = module.split(".")
    for layer, units_kept in zip(model.stacks()[stack], kept, strict=True):
        if kind == "heads":
            reader, width = layer.attention.o_proj, layer.attention.head_dim
        else:
            reader, width = getattr(layer.mlp, "down_proj" if hasattr(layer.mlp, "down_proj") else "fc2"), 1
        seen = torch.zeros(units(layer, kind))
        seen[units_kept] = 1.0
        reader.register_forward_pre_hook(partial(hide, seen.repeat_interleave(width)))


def hide(seen: Tensor, _: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0] * seen,)


@torch.no_grad()
def answers(model: FlowModel, sample: Sample) -> list[Tensor]:
    prefix = model.encode(sample.observed)
    return [*prefix.values(), model.sample(prefix, sample.noise, FLOW_STEPS)]


@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_removal_equals_masking_for_any_units(policy: tuple[FlowModel, Sample], data: st.DataObject) -> None:
    model, sample = policy
    kept = data.draw(keep_sets(model))
    removed, masked = copy.deepcopy(model), copy.deepcopy(model)
    for module, units_kept in kept.items():
        keep_units(removed, module, units_kept)
        mask(masked, module, units_kept)
    for found, expected in zip(answers(removed, sample), answers(masked, sample), strict=True):
        if expected.is_floating_point():
            assert relative_error(found, expected) < 1e-5
        else:
            assert torch.equal(found, expected)
    for stack, name in ((s, n) for n, s in removed.stacks().items()):
        for layer, channels_kept, heads_kept in zip(stack, kept[f"{name}.mlp"], kept[f"{name}.heads"], strict=True):
            assert channels(layer.mlp) == len(channels_kept)
            assert layer.attention.heads == len(heads_kept)
            assert layer.attention.q_proj.out_features == len(heads_kept) * layer.attention.head_dim


def test_masking_moves_the_answers(policy: tuple[FlowModel, Sample]) -> None:
    """Otherwise the test above could not fail."""
    model, sample = policy
    for module in ("vision.mlp", "vision.heads", "language.mlp", "language.heads", "expert.mlp", "expert.heads"):
        masked = copy.deepcopy(model)
        mask(masked, module, [[0] for _ in masked.stacks()[module.split(".")[0]]])
        assert relative_error(answers(masked, sample)[-1], answers(model, sample)[-1]) > 1e-4


def test_keys_that_others_read_stay_and_a_towers_own_go() -> None:
    model = smolvla()
    keep_units(model, "language.heads", [[0, 1, 2, 4], [5], [], [1, 3]])
    keep_units(model, "vision.heads", [[1], [0, 2]])
    groups = [layer.attention.groups for layer in model.stacks()["language"]]
    assert groups == [(3, 1), (0, 1), (3, 3), (1, 1)]
    assert [layer.attention.k_proj.out_features for layer in model.stacks()["language"]] == [20] * 4
    vision = [layer.attention for layer in model.stacks()["vision"]]
    assert [attention.groups for attention in vision] == [(1,), (1, 1)]
    for linear in ("q_proj", "k_proj", "v_proj"):
        assert [getattr(attention, linear).out_features for attention in vision] == [8, 16]
        assert [len(getattr(attention, linear).bias) for attention in vision] == [8, 16]


def test_heads_can_be_removed_more_than_once() -> None:
    once, twice = smolvla(), smolvla()
    (sample,) = random_samples("smolvla", 1)
    keep_units(once, "language.heads", [[0, 3, 5]] * 4)
    keep_units(twice, "language.heads", [[0, 2, 3, 4, 5]] * 4)
    keep_units(twice, "language.heads", [[0, 2, 4]] * 4)
    for found, expected in zip(answers(twice, sample), answers(once, sample), strict=True):
        assert torch.equal(found, expected)


def test_layers_reduced_to_their_memory_have_no_units() -> None:
    model = toy_policy()
    keep_memory(model, "language", [1, 3])
    keep_units(model, "language.heads", [[0], [], [1], [], [0], [1]])
    keep_units(model, "language.mlp", [[0], [], [1, 2], [], [0], [1]])
    assert [layer.attention.heads for layer in model.stacks()["language"]] == [1, 0, 1, 0, 1, 1]
    answers(model, toy_samples(1)[0])


@pytest.mark.parametrize("columns", [None, [1, 2, 6, 7]])
@pytest.mark.parametrize("rows", [None, [0, 3, 4]])
@torch.no_grad()
def test_a_narrow_branch_selects_as_if_the_inputs_taken_out_were_zero(
    rows: list[int] | None, columns: list[int] | None
) -> None:
    model = toy_policy()
    route(model, size=0.5, kinds=("layers.0.attention.o_proj",), gating=EnergyGating(6, 0.7, "released"))
    linear = model.language.layers[0].get_submodule("attention.o_proj")
    assert isinstance(linear, RoutedLinear)
    found = narrow(linear, rows, columns)
    assert isinstance(found, RoutedLinear)
    x = torch.randn(40, linear.in_features, generator=torch.Generator().manual_seed(2))
    zeroed = torch.zeros_like(x)
    zeroed[:, columns or slice(None)] = x[:, columns or slice(None)]
    expected = linear(zeroed)[:, rows or slice(None)]
    torch.testing.assert_close(found(x[:, columns or slice(None)]), expected)
    assert not torch.allclose(linear.base(zeroed)[:, rows or slice(None)], expected, atol=1e-3)
    assert (found.out_features, found.in_features) == (len(expected[0]), len(columns or x[0]))


def test_half_precision_and_a_model_without_numbers_are_narrowed_too() -> None:
    with torch.device("meta"):
        empty = type(toy_policy())(toy_policy().config)
    for model, dtype in ((toy_policy().half(), torch.float16), (empty, torch.float32)):
        for module in ("vision.mlp", "vision.heads", "language.mlp", "language.heads"):
            keep_units(model, module, [[0]] * len(model.stacks()[module.split(".")[0]]))
        layer = next(iter(model.stacks()["vision"]))
        shapes = {name: tuple(p.shape) for name, p in layer.named_parameters() if "norm" not in name}
        assert shapes["attention.q_proj.weight"] == shapes["attention.v_proj.weight"] == (8, 16)
        assert shapes["attention.o_proj.weight"] == (16, 8)
        assert shapes["mlp.fc1.weight"] == (1, 16)
        assert shapes["mlp.fc2.bias"] == (16,)
        assert {p.dtype for p in layer.mlp.parameters()} == {dtype}


@pytest.mark.parametrize("kept", [[], [1, 0], [0, 0], [-1, 0], [0, 99]])
def test_indices_that_are_none_touch_nothing(kept: list[int]) -> None:
    model = toy_policy()
    layer = next(iter(model.stacks()["language"]))
    before = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    with pytest.raises(ValueError, match="ascending indices"):
        keep_channels(layer.mlp, kept)
    with pytest.raises(ValueError, match="ascending indices"):
        keep_heads(layer.attention, kept, shared=True)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == before


def test_only_linears_and_mlps_are_narrowed() -> None:
    with pytest.raises(TypeError, match="Embedding is no linear"):
        narrow(nn.Embedding(3, 4), rows=[0])
    with pytest.raises(TypeError, match="Linear is no MLP"):
        keep_channels(nn.Linear(3, 4), [0])
