"""Choosing twin layers: the published procedure step by step, and the published lists."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_export.prune.twin_layers import layers_to_remove, select_twins

# Depth and removed layers of every module in CLP's tables (arXiv 2606.20246).
PUBLISHED = [
    (18, (1, 2, 4, 6, 8, 9)),
    (12, (3, 4, 5, 6, 7, 8, 9)),
    (4, (2,)),
    (16, (1, 2, 4, 5, 6, 7, 10, 11)),
    (16, (1, 2, 5, 6, 14, 15)),
]


def candidates_at(similarities: list[float], threshold: float) -> list[int]:
    """Blocks of layers chained by twin similarity, without the first of each."""
    blocks: list[list[int]] = []
    for layer, similarity in enumerate(similarities):
        if layer > 0 and similarity >= threshold:
            blocks[-1].append(layer)
        else:
            blocks.append([layer])
    return [layer for block in blocks for layer in block[1:]]


@settings(deadline=None)
@given(
    similarities=st.lists(st.integers(0, 20).map(lambda n: n / 20), min_size=2, max_size=18),
    share=st.floats(0.01, 0.99),
)
def test_equals_lowering_the_threshold_until_there_are_enough(similarities: list[float], share: float) -> None:
    count = layers_to_remove(share, len(similarities))
    threshold = next(t for t in sorted(similarities, reverse=True) if len(candidates_at(similarities, t)) >= count)
    candidates = candidates_at(similarities, threshold)
    highest = sorted(candidates, key=lambda layer: -similarities[layer])[:count]

    selection = select_twins(similarities, count)
    assert selection.threshold == threshold
    assert selection.removed == tuple(sorted(highest))
    assert 0 in selection.kept
    assert sorted(selection.removed + selection.kept) == list(range(len(similarities)))


@pytest.mark.parametrize(("depth", "removed"), PUBLISHED)
def test_the_published_lists_are_sets_of_twins_under_their_anchors(depth: int, removed: tuple[int, ...]) -> None:
    """Twins 0.99 alike come out as published, though the first layer leaves the embedding almost as it is."""
    similarities = [0.999] + [0.99 if layer in removed else 0.8 for layer in range(1, depth)]
    assert select_twins(similarities, len(removed)).removed == removed


def test_equals_go_in_order() -> None:
    assert select_twins([0.9, 0.9, 0.9, 0.9], 2).removed == (1, 2)


@pytest.mark.parametrize(
    ("fraction", "depth", "count"),
    [(0.5, 16, 8), (1 / 3, 18, 6), (0.5, 3, 2), (0.5, 5, 3), (0.01, 18, 1), (0.99, 18, 17), (0.5, 2, 1)],
)
def test_a_fraction_is_a_whole_number_of_layers(fraction: float, depth: int, count: int) -> None:
    assert layers_to_remove(fraction, depth) == count


@pytest.mark.parametrize("count", [0, 3, 4])
def test_some_but_not_all_layers_can_go(count: int) -> None:
    with pytest.raises(ValueError, match="of 3 layers"):
        select_twins([0.5, 0.5, 0.5], count)
