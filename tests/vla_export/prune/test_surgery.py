"""Removing layers equals replacing them by the identity."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.toy_policy import DEPTH, FLOW_STEPS, toy_policy, toy_samples
from vla_export.models.blocks import Layer, Stack
from vla_export.models.pi0 import Pi0
from vla_export.prune.surgery import remove_layers
from vla_export.sample import sample_actions


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
