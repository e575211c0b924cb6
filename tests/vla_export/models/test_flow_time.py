from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_export.models.flow_time import sinusoid


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
