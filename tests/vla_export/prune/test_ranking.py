"""One ranking over all layers, and widths rounded up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vla_export.prune.ranking import choose

LAYERS = st.lists(st.lists(st.floats(0, 1, width=32), max_size=9), min_size=1, max_size=5).filter(any)


def tensors(layers: list[list[float]]) -> list[torch.Tensor]:
    return [torch.tensor(layer, dtype=torch.float64) for layer in layers]


@given(layers=LAYERS, ratio=st.floats(0.01, 0.99), highest=st.booleans())
def test_a_single_unit_ranks_all_layers_together(layers: list[list[float]], ratio: float, highest: bool) -> None:
    found = choose(tensors(layers), ratio, "highest" if highest else "lowest", 1)
    sign = 1 if highest else -1
    ranked = sorted(
        ((-sign * score, n, unit) for n, layer in enumerate(layers) for unit, score in enumerate(layer)),
    )
    count = int(ratio * len(ranked) + 0.5)
    gone = {(n, unit) for _, n, unit in ranked[:count]}
    assert found.threshold == (None if count == 0 else sign * -ranked[count - 1][0])
    for n, layer in enumerate(layers):
        staying = [unit for unit in range(len(layer)) if (n, unit) not in gone]
        if staying or not layer:
            assert list(found.kept[n]) == staying
        else:  # of a layer that would lose everything the last to go comes back
            assert [(n, unit) for _, m, unit in ranked if m == n][-1:] == [(n, unit) for unit in found.kept[n]]


@given(layers=LAYERS, ratio=st.floats(0.01, 0.99), multiple=st.integers(1, 6), highest=st.booleans())
def test_a_layer_keeps_a_multiple_that_holds_what_it_would_keep(
    layers: list[list[float]], ratio: float, multiple: int, highest: bool
) -> None:
    direction = "highest" if highest else "lowest"
    exact = choose(tensors(layers), ratio, direction, 1)
    found = choose(tensors(layers), ratio, direction, multiple)
    assert found.threshold == exact.threshold
    for layer, kept, least in zip(layers, found.kept, exact.kept, strict=True):
        assert set(least) <= set(kept)
        assert list(kept) == sorted(set(kept))
        assert len(kept) == len(layer) or (len(kept) % multiple == 0 and len(kept) < len(least) + multiple)


def test_the_last_to_go_come_back_first() -> None:
    scores = [torch.tensor([0.9, 0.1, 0.5, 0.2, 0.8, 0.3, 0.7, 0.6])]
    assert choose(scores, 0.375, "highest", 1).kept == ((1, 2, 3, 5, 7),)
    assert choose(scores, 0.375, "highest", 3).kept == ((1, 2, 3, 5, 6, 7),)
    assert choose(scores, 0.375, "highest", 4).kept == (tuple(range(8)),)
    assert choose(scores, 0.75, "lowest", 4).kept == ((0, 4, 6, 7),)
    assert choose(scores, 0.375, "highest", 64).kept == (tuple(range(8)),)


def test_of_equals_the_earlier_goes_first() -> None:
    scores = [torch.ones(3), torch.ones(3)]
    assert choose(scores, 1 / 3, "highest", 1).kept == choose(scores, 1 / 3, "lowest", 1).kept == ((2,), (0, 1, 2))


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.2, float("nan")])
def test_a_ratio_lies_between_nothing_and_everything(ratio: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        choose([torch.ones(3)], ratio, "highest", 1)
