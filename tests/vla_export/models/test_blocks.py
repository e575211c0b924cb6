from __future__ import annotations

import pytest
import torch

from vla_export.models.attention import Attention
from vla_export.models.blocks import (
    AdaptiveLayer,
    GatedMLP,
    Layer,
    StackSize,
    adaptive_gemma_stack,
    gelu_tanh,
    gemma_stack,
    llama_stack,
    siglip_stack,
)
from vla_export.models.norms import AdaptiveRMSNorm, RMSNorm


@torch.no_grad()
def test_the_residual_stream_survives_what_float16_cannot_hold() -> None:
    layer = Layer("self", RMSNorm(16), Attention(16, 2, 1, 8), RMSNorm(16), GatedMLP(16, 32, gelu_tanh))
    layer.attention.half()
    layer.mlp.half()
    x = 1e6 * torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(3))
    found, (key, _) = layer(x)
    assert found.dtype == torch.float32
    assert key.dtype == torch.float16
    assert bool(found.isfinite().all())


@torch.no_grad()
def test_a_joint_layer_reads_the_prefix_before_its_own() -> None:
    size = StackSize(depth=1, width=16, mlp=24, heads=4, kv_heads=2, head_dim=4)
    (layer,) = gemma_stack("expert", size, "joint", final_norm=False)
    x = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(4))
    whole, (keys, values) = layer(x)
    last, _ = layer(x[:, 4:], past=(keys[:, :, :4], values[:, :, :4]))
    torch.testing.assert_close(last, whole[:, 4:])


def test_stacks_are_named_and_sized() -> None:
    size = StackSize(depth=3, width=16, mlp=24, heads=4, kv_heads=4, head_dim=4)
    vision, language = siglip_stack("vision", size), gemma_stack("language", size, "self", final_norm=False)
    assert (vision.name, len(vision), language.name, len(language)) == ("vision", 3, "language", 3)
    assert vision.norm is not None
    assert language.norm is None
    assert {layer.kind for layer in language} == {"self"}


@torch.no_grad()
def test_a_closed_gate_adds_nothing_and_one_condition_serves_a_batch() -> None:
    size = StackSize(depth=1, width=16, mlp=24, heads=4, kv_heads=2, head_dim=4)
    stack = adaptive_gemma_stack("expert", size, "joint")
    (layer,) = stack
    assert isinstance(layer, AdaptiveLayer)
    assert isinstance(stack.norm, AdaptiveRMSNorm)
    generator = torch.Generator().manual_seed(7)
    x, condition = torch.randn(3, 6, 16, generator=generator), torch.randn(1, 16, generator=generator)
    one, _ = layer(x, condition=condition)
    torch.testing.assert_close(layer(x, condition=condition.expand(3, -1))[0], one)
    assert not torch.allclose(one, x, atol=1e-2)
    for norm in (layer.input_norm, layer.post_norm):
        norm.get_parameter("dense.weight")[32:] = 0.0
        norm.get_parameter("dense.bias")[32:] = 0.0
    assert torch.equal(layer(x, condition=condition)[0], x)


@torch.no_grad()
def test_a_cross_layer_reads_projections_of_anothers_memory_and_nothing_else() -> None:
    size = StackSize(depth=2, width=12, mlp=24, heads=4, kv_heads=2, head_dim=6)
    joint, cross = llama_stack("expert", size, ("joint", "cross"), final_norm=False, memory_width=3 * 10)
    assert (joint.attention.k_proj.in_features, cross.attention.k_proj.in_features) == (12, 30)
    generator = torch.Generator().manual_seed(8)
    theirs = [torch.randn(1, 3, 7, 10, generator=generator) for _ in range(2)]
    memory = cross.attention.remember(*theirs)
    for own, linear, their in zip(memory, (cross.attention.k_proj, cross.attention.v_proj), theirs, strict=True):
        assert own.shape == (1, 2, 7, 6)
        expected = linear(their[0].permute(1, 0, 2).reshape(7, 30))  # a token's heads, one after the other
        torch.testing.assert_close(own[0].permute(1, 0, 2).reshape(7, 12), expected)

    x = torch.randn(1, 5, 12, generator=generator)
    whole, returned = cross(x, past=memory)
    assert returned is memory
    torch.testing.assert_close(cross(x[:, 2:4], past=memory)[0], whole[:, 2:4])  # its own tokens do not meet
    with pytest.raises(ValueError, match="a cross layer reads a prefix's keys and values"):
        cross(x)
