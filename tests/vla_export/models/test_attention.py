from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vla_export.models.attention import MASKED, Attention, additive, rotate, rotation


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


def test_an_additive_mask_fits_every_query_or_each_its_own() -> None:
    seen = torch.tensor([[True, False, True]])
    assert additive(seen).tolist() == [[[[0.0, MASKED, 0.0]]]]
    each = torch.tensor([[[True, False], [True, True]]])
    assert additive(each).tolist() == [[[[0.0, MASKED], [0.0, 0.0]]]]


@pytest.mark.parametrize("groups", [(3, 1), (0, 2, 1), (2, 2), (0, 0, 1)])
@torch.no_grad()
def test_uneven_groups_read_their_own_keys(groups: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)
    attention = Attention(20, sum(groups), 1, 8)
    attention.groups = groups
    assert (attention.heads, attention.kv_heads) == (sum(groups), len(groups))
    q = torch.randn(2, sum(groups), 5, 8, generator=generator)
    k, v = (torch.randn(2, len(groups), 7, 8, generator=generator) for _ in range(2))
    seen = torch.rand(2, 1, 5, 7, generator=generator) > 0.3
    seen[..., 0] = True
    found = attention.attend(q, k, v, torch.where(seen, 0.0, MASKED))
    reads = [key for key, size in enumerate(groups) for _ in range(size)]
    expected = F.scaled_dot_product_attention(q, k[:, reads], v[:, reads], attn_mask=seen)
    torch.testing.assert_close(found, attention.o_proj(expected.transpose(1, 2).reshape(2, 5, -1)))
