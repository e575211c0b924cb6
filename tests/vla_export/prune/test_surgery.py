"""Removing layers equals replacing them by the identity."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.toy_policy import DEPTH, FLOW_STEPS, toy_policy, toy_samples
from tests.vla_export.models.tiny_families import FAMILIES, random_samples, relative_error
from vla_export.models.blocks import GatedMLP, Layer, MemoryLayer, Stack
from vla_export.models.pi0 import Pi0
from vla_export.prune.surgery import keep_memory, remove_layers
from vla_export.sample import Sample, sample_actions


class IdentityLayer(Layer):
    """Passes its input on; its keys and values are zeros, which only other identity layers are given."""

    def __init__(self, replaced: Layer) -> None:
        nn.Module.__init__(self)
        self.kind, self.replaced = replaced.kind, replaced

    def forward(self, x: Tensor, *_: object) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attention = self.replaced.attention
        zeros = x.new_zeros(len(x), attention.kv_heads, x.shape[1], attention.head_dim)
        return x, (zeros, zeros)


def mask_layers(stack: Stack, removed: set[int]) -> None:
    for index, layer in enumerate(list(stack)):
        if index in removed:
            stack.layers[index] = IdentityLayer(layer)


def encode(model: Pi0, seed: int) -> dict[str, Tensor]:
    (sample,) = toy_samples(1, seed)
    with torch.no_grad():
        return model.encode(sample.observed)


@settings(deadline=None, max_examples=25)
@given(removed=st.sets(st.integers(0, DEPTH - 1), max_size=DEPTH - 1), seed=st.integers(0, 1000))
def test_removal_equals_masking_for_any_set_of_layers(removed: set[int], seed: int) -> None:
    pruned, masked = toy_policy(), toy_policy()
    remove_layers(pruned, {"language": removed, "expert": removed})
    for name in ("language", "expert"):
        mask_layers(masked.stacks()[name], removed)

    (sample,) = toy_samples(1, seed)
    torch.testing.assert_close(
        sample_actions(pruned, sample, FLOW_STEPS), sample_actions(masked, sample, FLOW_STEPS), rtol=1e-6, atol=1e-6
    )
    kept = [n for n in range(DEPTH) if n not in removed]
    short, full = encode(pruned, seed), encode(masked, seed)
    # Keys are numbered without holes, in the order of the layers that are left.
    assert set(short) == {"prefix_mask"} | {f"{what}_{n:02d}" for what in ("key", "value") for n in range(len(kept))}
    for new, old in enumerate(kept):
        for what in ("key", "value"):
            torch.testing.assert_close(short[f"{what}_{new:02d}"], full[f"{what}_{old:02d}"], rtol=1e-6, atol=1e-6)


def silence(layer: Layer) -> None:
    """Mask a layer as the papers do: what it adds to the residual stream is zero."""
    last = layer.mlp.down_proj if isinstance(layer.mlp, GatedMLP) else layer.mlp.fc2
    for linear in (layer.attention.o_proj, last):
        for parameter in linear.parameters():  # type: ignore[union-attr]  # a linear
            parameter.zero_()


@pytest.mark.parametrize("family", sorted(FAMILIES))
@settings(deadline=None, max_examples=15)
@given(
    removed=st.sets(st.integers(0, 3), max_size=3),
    reduced=st.sets(st.integers(0, 3)),
    seen=st.sets(st.integers(0, 1), max_size=1),
    seed=st.integers(1, 1000),
)
@torch.no_grad()
def test_removal_equals_masking_in_every_family(
    family: str, removed: set[int], reduced: set[int], seen: set[int], seed: int
) -> None:
    pruned, masked = FAMILIES[family](), FAMILIES[family]()
    kinds = [layer.kind for layer in pruned.stacks()["expert"]]
    (sample,) = random_samples(family, 1)
    sample = Sample(sample.observed, torch.randn(sample.noise.shape, generator=torch.Generator().manual_seed(seed)))
    keep_memory(pruned, "language", reduced)
    remove_layers(pruned, {"vision": seen, "language": removed, "expert": removed})
    for name, silent in (("vision", seen), ("language", removed | reduced), ("expert", removed)):
        for index in silent:
            silence(list(masked.stacks()[name])[index])

    ours, theirs = (sample_actions(model, sample, 3) for model in (pruned, masked))
    assert relative_error(ours, theirs) < 1e-5
    short, full = pruned.encode(sample.observed), masked.encode(sample.observed)
    kept = [n for n in range(4) if n not in removed]
    assert len(short) == 1 + 2 * len(kept)
    for new, old in enumerate(kept):
        assert relative_error(short[f"key_{new:02d}"], full[f"key_{old:02d}"]) < 1e-5
    assert [layer.kind for layer in pruned.stacks()["expert"]] == [kinds[n] for n in kept]
    assert pruned.config.expert.depth == pruned.config.language.depth == len(kept)
    assert pruned.config.vision.depth == 2 - len(seen)


def test_a_reduced_layer_holds_a_norm_keys_and_values_alone() -> None:
    model = toy_policy()
    keep_memory(model, "language", {1, 3})
    reduced = {name.split(".", 3)[3] for name in model.state_dict() if name.startswith("language.layers.3.")}
    assert reduced == {"input_norm.weight", "attention.k_proj.weight", "attention.v_proj.weight"}
    before = list(model.language)[1]
    keep_memory(model, "language", {1})
    assert list(model.language)[1] is before
    assert isinstance(before, MemoryLayer)


@pytest.mark.parametrize(
    ("stack", "indices", "message"),
    [
        ("expert", {1}, "no other stack reads expert; read are language"),
        ("vision", {0}, "no other stack reads vision"),
        ("language", {DEPTH}, "cannot reduce"),
    ],
)
def test_what_has_no_memory_to_keep_is_left_alone(stack: str, indices: set[int], message: str) -> None:
    model = toy_policy()
    with pytest.raises(ValueError, match=message):
        keep_memory(model, stack, indices)
    assert not any(isinstance(layer, MemoryLayer) for part in model.stacks().values() for layer in part)


def test_the_layers_that_stay_are_the_same_ones() -> None:
    model = toy_policy()
    before = {name: list(stack) for name, stack in model.stacks().items()}
    before["expert"][3].kind = "cross"
    remove_layers(model, {"language": {1, 4}, "expert": {1, 4}})
    for name in ("language", "expert"):
        assert [id(layer) for layer in model.stacks()[name]] == [id(before[name][n]) for n in (0, 2, 3, 5)]
    assert [layer.kind for layer in model.expert] == ["joint", "joint", "cross", "joint"]
    assert len(model.stacks()["vision"]) == 2
    assert not any(".5." in key for key in model.state_dict())


def test_a_stack_in_no_group_can_be_cut_alone() -> None:
    model = toy_policy()
    remove_layers(model, {"vision": {0}})
    assert [len(stack) for stack in model.stacks().values()] == [1, DEPTH, DEPTH]


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"language": {1}, "expert": {2}}, "are coupled"),
        ({"language": {1}}, "are coupled"),
        ({"vision": {0}, "language": {1}, "expert": {DEPTH}}, "stack expert: cannot remove"),
        ({"language": set(range(DEPTH)), "expert": set(range(DEPTH))}, "stack language: cannot remove"),
        ({"vision": {0}, "other": {0}}, "no stack other"),
    ],
)
def test_a_wrong_request_touches_nothing(removed: dict[str, set[int]], message: str) -> None:
    model = toy_policy()
    with pytest.raises(ValueError, match=message):
        remove_layers(model, removed)
    assert [len(stack) for stack in model.stacks().values()] == [2, DEPTH, DEPTH]
