from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vla_export.models.blocks import (
    MASKED,
    Attention,
    GatedMLP,
    Layer,
    RMSNorm,
    StackSize,
    gelu_tanh,
    gemma_stack,
    rotate,
    rotation,
    siglip_stack,
    sinusoid,
)


@settings(deadline=None)
@given(st.floats(0.0, 1.0, width=32))
def test_the_time_embedding_is_exact_to_float32(time: float) -> None:
    width, shortest, longest = 64, 4e-3, 4.0
    fraction = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64)
    angles = 2 * math.pi * time / (shortest * (longest / shortest) ** fraction)
    exact = torch.cat((angles.sin(), angles.cos()))
    found = sinusoid(torch.tensor([time]), width, shortest, longest)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0].double(), exact, rtol=0, atol=2e-6)


@settings(deadline=None)
@given(st.integers(0, 800), st.integers(0, 800), st.integers(0, 200))
def test_rotated_products_depend_on_the_distance_alone(a: int, b: int, shift: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 1, 16, generator=generator) for _ in range(2))

    def product(i: int, j: int) -> torch.Tensor:
        rq, rk = (rotate(x, rotation(torch.tensor([[p]]), 16)) for x, p in ((q, i), (k, j)))
        return (rq * rk).sum()

    torch.testing.assert_close(product(a, b), product(a + shift, b + shift), rtol=0, atol=2e-3)
    torch.testing.assert_close(rotate(q, rotation(torch.tensor([[a]]), 16)).norm(), q.norm())


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 1), (4, 2), (3, 3)])
@torch.no_grad()
def test_attention_is_scaled_dot_product_attention(heads: int, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(1)
    attention = Attention(20, heads, kv_heads, 8)
    q = torch.randn(1, heads, 5, 8, generator=generator)
    k, v = (torch.randn(1, kv_heads, 7, 8, generator=generator) for _ in range(2))
    seen = torch.rand(1, 1, 5, 7, generator=generator) > 0.3
    seen[..., 0] = True
    found = attention.attend(q, k, v, torch.where(seen, 0.0, MASKED))
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(found, attention.o_proj(expected.transpose(1, 2).reshape(1, 5, -1)))


def test_a_wholly_masked_row_stays_finite_in_float16() -> None:
    attention = Attention(16, 2, 1, 8).half()
    q, k = torch.randn(1, 2, 3, 8).half(), torch.randn(1, 1, 4, 8).half()
    found = attention.attend(q, k, k, torch.full((1, 1, 3, 4), MASKED))
    assert found.dtype == torch.float16
    assert bool(found.isfinite().all())


@torch.no_grad()
def test_rms_norm_has_unit_rms_and_is_blind_to_scale() -> None:
    norm = RMSNorm(12)
    x = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(norm(x).square().mean(-1).sqrt(), torch.ones(2, 3))
    torch.testing.assert_close(norm(1e4 * x), norm(x), rtol=1e-4, atol=1e-5)
    norm.weight.fill_(0.5)
    torch.testing.assert_close(norm(x), 1.5 * RMSNorm(12)(x))


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
