"""What rows of smaller policies say of one another."""

from __future__ import annotations

import pytest

from results.pruned_row import PrunedRow, comparisons
from tests.results.pruned_rows import pruned_row

RIVALS = [("cka", "random")]


def named(rows: list[PrunedRow]) -> list[tuple[str, str]]:
    return [(found.first, found.second) for found in comparisons(rows, RIVALS)]


def test_rivals_meet_every_draw_on_the_same_seeds() -> None:
    rows = [
        pruned_row("cka", tuple(range(10))),
        pruned_row("random", (), draw=0),
        pruned_row("random", tuple(range(15)), draw=1),
        pruned_row("gate", ()),
    ]
    first, second = comparisons(rows, RIVALS)
    assert (first.first, first.second) == ("cka, as cut", "random 0, as cut")
    assert first.success.difference == pytest.approx(-0.5)
    assert (first.success.both, first.success.second_only) == (10, 10)
    assert second.success.difference == pytest.approx(0.25)
    assert (second.success.both, second.success.first_only, second.success.neither) == (5, 5, 10)


def test_finetuning_is_compared_with_itself_before() -> None:
    rows = [pruned_row("gate", (0, 1, 2, 3)), pruned_row("gate", (0,), finetuned=300)]
    (found,) = comparisons(rows, RIVALS)
    assert (found.first, found.second) == ("gate, finetuned", "gate, as cut")
    assert found.success.difference == pytest.approx(0.15)


@pytest.mark.parametrize(
    "other", [{"task": "reach"}, {"asked": 0.5}, {"module": "language.mlp"}, {"finetuned": 300}, {"condition": "dark"}]
)
def test_only_like_is_compared_with_like(other: dict[str, object]) -> None:
    assert named([pruned_row("cka", ()), pruned_row("random", (), draw=0)])
    assert not named([pruned_row("cka", ()), pruned_row("random", (), draw=0).model_copy(update=other)])
