"""Gates against loops over tokens, experts and directions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.naive_adapters import best, kept_by_energy, release_gates, softmax, times
from vla_export.adapters.gating import (
    EnergyGating,
    ExpertGating,
    ProjectedGating,
    Routing,
    Semantics,
    kept_directions,
    largest,
    release_experts,
)

SEMANTICS: tuple[Semantics, ...] = ("released", "paper")
ROUTINGS: tuple[Routing, ...] = ("weighted", "top1", "top2")


@settings(deadline=None)
@given(
    # Numbers bfloat16 holds exactly, with few distinct values so that ties are common.
    scores=st.lists(st.sampled_from([-3.0, -1.5, -1.0, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12),
    threshold=st.sampled_from([0.25, 0.5, 0.75, 0.875, 1.0]),
)
def test_released_selection_keeps_what_sorting_and_summing_keeps(scores: list[float], threshold: float) -> None:
    keep = kept_directions(torch.tensor([scores]), threshold, "released")[0]
    assert set(keep.nonzero().flatten().tolist()) == kept_by_energy(scores, threshold, "released")


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=12).filter(any),
    threshold=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_paper_selection_is_the_smallest_set_that_reaches_the_threshold(scores: list[float], threshold: float) -> None:
    keep = kept_directions(torch.tensor([scores]), threshold, "paper")[0]
    energies = sorted((s * s for s in scores), reverse=True)
    smallest = next(k for k in range(1, len(scores) + 1) if sum(energies[:k]) >= threshold * sum(energies))
    assert int(keep.sum()) == smallest
    assert sum(s * s for s, k in zip(scores, keep.tolist(), strict=True) if k) >= threshold * sum(energies)


def test_the_two_semantics_differ_by_the_direction_that_crosses_the_threshold() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0]])  # squared and sorted: 9, 4, 1 of 14
    assert kept_directions(scores, 0.8, "released").tolist() == [[True, False, False]]
    assert kept_directions(scores, 0.8, "paper").tolist() == [[True, False, True]]


def test_of_equal_scores_the_first_are_kept() -> None:
    assert kept_directions(torch.ones(1, 4), 0.5, "released").tolist() == [[True, True, False, False]]


def test_released_selection_goes_by_sign_and_always_keeps_one() -> None:
    scores = torch.tensor([[-10.0, 0.1, -0.2]])
    assert kept_directions(scores, 0.5, "released").tolist() == [[False, True, True]]
    assert kept_directions(torch.tensor([[5.0, -0.1]]), 0.5, "released").tolist() == [[True, False]]


def test_papers_scores_are_never_negative() -> None:
    gates = EnergyGating(3, 0.9, "paper")(torch.tensor([[-5.0, 2.0, -1.0], [-1.0, -2.0, -3.0]]))
    assert gates.tolist() == [[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]


@settings(deadline=None)
@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=9),
    count=st.integers(1, 9),
)
def test_the_largest_are_those_that_sorting_puts_first(values: list[float], count: int) -> None:
    count = min(count, len(values))
    assert set(largest(torch.tensor(values), count).nonzero().flatten().tolist()) == set(best(values, count))


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0]), min_size=2, max_size=7),
    routing=st.sampled_from(ROUTINGS),
    rank=st.integers(1, 3),
)
def test_releases_experts_are_gated_as_in_the_loops(scores: list[float], routing: Routing, rank: int) -> None:
    gates = release_experts(len(scores), rank, routing)(torch.tensor([scores]))
    expected = [gate for gate in release_gates(scores, routing) for _ in range(rank)]
    torch.testing.assert_close(gates, torch.tensor([expected]))


@settings(deadline=None)
@given(
    ranks=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    top_k=st.integers(1, 6),
    seed=st.integers(0, 2**16),
)
def test_uneven_experts_share_one_over_the_chosen(ranks: list[int], top_k: int, seed: int) -> None:
    top_k = min(top_k, len(ranks))
    scores = torch.randint(-2, 3, (5, len(ranks)), generator=torch.Generator().manual_seed(seed)).float()
    gates = ExpertGating(ranks, top_k)(scores)
    assert gates.shape == (5, sum(ranks))
    for token, row in zip(scores.tolist(), gates.tolist(), strict=True):
        shares = softmax(token)
        chosen = best(shares, top_k)
        total = sum(shares[n] for n in chosen)
        expected = [shares[n] / total if n in chosen else 0.0 for n, rank in enumerate(ranks) for _ in range(rank)]
        assert row == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("semantics", SEMANTICS)
def test_projected_gates_are_selected_by_energy_too(routing: Routing, semantics: Semantics) -> None:
    generator = torch.Generator().manual_seed(7)
    projection, scores = (torch.randn(shape, generator=generator) for shape in ((6, 3), (20, 3)))
    gating = ProjectedGating(release_experts(3, 2, routing), projection, EnergyGating(6, 0.8, semantics))
    assert (gating.scores, gating.directions) == (3, 6)
    for token, row in zip(scores.tolist(), gating(scores).tolist(), strict=True):
        projected = times(projection.tolist(), release_gates(token, routing))
        if semantics == "paper":
            projected = [max(p, 0.0) for p in projected]
        kept = kept_by_energy(projected, 0.8, semantics)
        assert row == pytest.approx([p if n in kept else 0.0 for n, p in enumerate(projected)], rel=1e-5, abs=1e-6)


@settings(deadline=None)
@given(
    scores=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]), min_size=2, max_size=8),
    keep=st.integers(1, 7),
    threshold=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    semantics=st.sampled_from(SEMANTICS),
)
def test_a_cut_gating_agrees_wherever_it_has_the_directions(
    scores: list[float], keep: int, threshold: float, semantics: Semantics
) -> None:
    """Whatever is cut beyond what a token selects, its gates stay; the order says which score goes where."""
    whole = EnergyGating(len(scores), threshold, semantics)
    gates = whole(torch.tensor(scores))
    selected = (gates != 0) | (torch.arange(len(scores)) >= keep)
    assume(selected.any())
    smaller, order = whole.cut(selected, int(whole.kept(torch.tensor(scores)).sum()))
    assert (smaller.directions, smaller.scores) == (int(selected.sum()), len(scores))
    assert sorted(order.tolist()) == list(range(len(scores)))
    assert torch.equal(smaller(torch.tensor(scores)[order]), gates[selected])


@settings(deadline=None)
@given(
    scores=st.permutations([-2.0, -1.0, 0.5, 1.0, 3.0, 4.0]),
    most=st.integers(1, 6),
    semantics=st.sampled_from(SEMANTICS),
)
def test_a_token_that_needs_more_loses_exactly_what_is_gone(
    scores: list[float], most: int, semantics: Semantics
) -> None:
    whole = EnergyGating(6, 0.9, semantics)
    selected = torch.tensor([True, False, True, True, False, True])
    smaller, order = whole.cut(selected, most)
    gates = whole(torch.tensor(scores))
    first = torch.isin(torch.arange(6), torch.tensor(best(scores, most)))
    assert torch.equal(smaller(torch.tensor(scores)[order]), (gates * first)[selected])


def test_cutting_twice_is_cutting_once() -> None:
    scores = torch.tensor([[4.0, 1.0, 2.0, -3.0, 0.5]])
    once, order = EnergyGating(5, 0.6, "released").cut(torch.tensor([True, False, True, False, False]), 2)
    between, first = EnergyGating(5, 0.6, "released").cut(torch.tensor([True, True, True, False, False]), 3)
    twice, second = between.cut(torch.tensor([True, False, True]), 2)
    assert torch.equal(once(scores[:, order]), twice(scores[:, first][:, second]))


def test_a_cut_expert_still_takes_part_in_the_softmax() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0]])
    whole = ExpertGating([2, 1, 2], 2)
    smaller, order = whole.cut(torch.tensor([True, True, True, False, False]), 2)
    assert (smaller.ranks, smaller.scores, smaller.directions) == ((2, 1, 0), 3, 3)
    assert torch.equal(smaller(scores[:, order]), whole(scores)[:, :3])
    crowded = torch.tensor([[2.0, 1.0, 3.0]])  # the cut expert wins: its share is lost, the other's is what it was
    assert torch.equal(smaller(crowded), whole(crowded)[:, :3])


def test_a_cut_projection_loses_the_rows_it_no_longer_gates() -> None:
    projection = torch.randn((6, 3), generator=torch.Generator().manual_seed(1))
    whole = ProjectedGating(release_experts(3, 2, "weighted"), projection, EnergyGating(6, 0.7, "released"))
    scores = torch.randn((1, 3), generator=torch.Generator().manual_seed(2))
    gates = whole(scores)
    selected = gates[0] != 0
    assert not selected.all()
    smaller, order = whole.cut(selected, int(selected.sum()))
    torch.testing.assert_close(smaller(scores[:, order]), gates[:, selected])
