"""A cut branch on the tokens it was cut for, and on others."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vla_export.adapters.adapter import Branch
from vla_export.adapters.bank_cut import cut_bank, cut_branch
from vla_export.adapters.gating import EnergyGating, ExpertGating, Gating, ProjectedGating, release_experts
from vla_export.adapters.observed import observing
from vla_export.adapters.routed_linear import RoutedLinear

BANK, WIDE, NARROW = 24, 10, 7


def gatings() -> list[Gating]:
    projection = torch.randn((BANK, 6), generator=torch.Generator().manual_seed(5))
    return [
        EnergyGating(BANK, 0.6, "released"),
        EnergyGating(BANK, 0.6, "paper"),
        ExpertGating([9, 4, 4, 4, 2, 1], 1),
        ProjectedGating(release_experts(6, 4, "top1"), projection, EnergyGating(BANK, 0.6, "released")),
    ]


def routed(gating: Gating, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    base = nn.Linear(WIDE, NARROW).requires_grad_(False)
    A, B, R = (
        torch.randn(shape, generator=generator) for shape in ((BANK, WIDE), (NARROW, BANK), (gating.scores, WIDE))
    )
    model = nn.Module()
    model.linear = RoutedLinear(base, Branch(A, B, R, gating))
    return model


@settings(deadline=None)
@given(kind=st.integers(0, 3), tokens=st.integers(1, 6), seed=st.integers(0, 2**16))
def test_nothing_changes_for_the_tokens_a_bank_was_cut_for(kind: int, tokens: int, seed: int) -> None:
    model = routed(gatings()[kind], seed)
    x = torch.randn((1, tokens, WIDE), generator=torch.Generator().manual_seed(seed + 1))
    with observing(model, ["linear"]) as seen:  # type: ignore[arg-type]  # any module has linears
        y = model.linear(x)
    smaller = cut_bank(model.linear, seen["linear"].selected, seen["linear"].most)
    assert smaller.directions == int(seen["linear"].selected.sum())
    torch.testing.assert_close(smaller(x), y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gating", gatings())
def test_a_cut_bank_is_smaller_and_other_tokens_may_miss_it(gating: Gating) -> None:
    model = routed(gating, 0)
    few, many = (torch.randn((1, n, WIDE), generator=torch.Generator().manual_seed(n)) for n in (2, 500))
    with observing(model, ["linear"]) as known:  # type: ignore[arg-type]
        model.linear(few)
    with observing(model, ["linear"], known) as seen:  # type: ignore[arg-type]
        y = model.linear(many)
    smaller = cut_bank(model.linear, known["linear"].selected, known["linear"].most)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.linear.parameters())
    changed = ((smaller(many) - y).abs().amax(-1) > 1e-4).sum()
    assert changed == seen["linear"].missed > 0


def test_what_is_left_are_the_selected_rows_and_columns() -> None:
    model = routed(EnergyGating(BANK, 0.6, "released"), 3)
    branch = model.linear.branch
    selected = torch.arange(BANK) % 3 == 0
    cut = cut_branch(branch, selected, 4)
    assert torch.equal(cut.A, branch.A[selected])
    assert torch.equal(cut.B, branch.B[:, selected])
    assert torch.equal(cut.router, torch.cat((branch.router[selected], branch.router[~selected])))


def test_a_branch_of_nothing_is_refused() -> None:
    model = routed(EnergyGating(BANK, 0.6, "released"), 3)
    with pytest.raises(ValueError, match="at least one selected"):
        cut_bank(model.linear, torch.zeros(BANK, dtype=torch.bool), 1)
