from __future__ import annotations

import torch
from torch.nn import functional as F

from vla_export.models.norms import AdaptiveRMSNorm, RMSNorm


@torch.no_grad()
def test_rms_norm_has_unit_rms_and_is_blind_to_scale() -> None:
    norm = RMSNorm(12)
    x = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(norm(x).square().mean(-1).sqrt(), torch.ones(2, 3))
    torch.testing.assert_close(norm(1e4 * x), norm(x), rtol=1e-4, atol=1e-5)
    norm.weight.fill_(0.5)
    torch.testing.assert_close(norm(x), 1.5 * RMSNorm(12)(x))


@torch.no_grad()
def test_llamas_norm_multiplies_by_its_weight_alone() -> None:
    x = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(5))
    llama, gemma = RMSNorm(12, offset=0.0), RMSNorm(12)
    torch.testing.assert_close(llama(x), gemma(x))  # neutral weights of either: ones and zeros
    llama.weight.fill_(0.5)
    torch.testing.assert_close(llama(x), 0.5 * gemma(x))
    torch.testing.assert_close(llama(x), F.rms_norm(x, (12,), llama.weight, 1e-6))


@torch.no_grad()
def test_an_adaptive_norm_scales_shifts_and_gates_as_its_condition_says() -> None:
    generator = torch.Generator().manual_seed(6)
    norm, x = AdaptiveRMSNorm(8), torch.randn(2, 5, 8, generator=generator)
    condition = torch.randn(2, 8, generator=generator)
    scale, shift, gate = norm.dense(condition)[:, None].chunk(3, dim=-1)
    found, found_gate = norm(x, condition)
    torch.testing.assert_close(found, F.rms_norm(x, (8,), eps=1e-6) * (1 + scale) + shift)
    torch.testing.assert_close(found_gate, gate)
