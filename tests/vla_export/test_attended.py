"""Which tokens of a layer's own count."""

from __future__ import annotations

import pytest
import torch

from tests.toy_policy import toy_policy
from vla_export.attended import attended
from vla_export.models.attention import additive


def test_a_token_that_anything_attends_to_counts() -> None:
    """Three tokens after two of a past: the first own one is seen by the last alone, the second by nothing."""
    layer = next(iter(toy_policy().expert))
    seen = torch.ones(1, 3, 5, dtype=torch.bool)
    seen[0, :, 3] = False
    seen[0, :2, 2] = False
    x = torch.zeros(1, 3, 16)
    assert attended(layer, (x, None, additive(seen)), {}).tolist() == [[True, False, True]]
    assert attended(layer, (x,), {"mask": additive(seen[:, 0])}).tolist() == [[False, False, True]]


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_every_token_counts_where_nothing_is_masked_or_own_ones_are_not_read(kind: str) -> None:
    layer = next(iter(toy_policy().expert))
    layer.kind = kind  # type: ignore[assignment]  # a parameter of the test
    mask = None if kind == "self" else additive(torch.zeros(2, 3, dtype=torch.bool))
    assert attended(layer, (torch.zeros(2, 3, 16), None, mask), {}).all()
