"""Rows and how they are paired."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.row import Success, row
from results.success import Score
from vla_evaluation.intervals import paired_difference, wilson


def test_success_counts_and_remembers_which_seeds_failed() -> None:
    found = Success.counted({1: False, 0: True, 2: True})
    interval = wilson(2, 3)
    assert (found.n, found.of, found.failed) == (2, 3, (1,))
    assert (found.low, found.high) == (interval.lower, interval.upper)
    assert found.text() == "2 of 3 (21–94 %)"


def test_seeds_with_a_gap_are_no_success() -> None:
    with pytest.raises(ValueError, match="not 0 to 1"):
        Success.counted({0: True, 2: True})


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_difference_is_that_of_the_pairs(pairs: list[tuple[bool, bool]]) -> None:
    first, second = (Success.counted(dict(enumerate(one))) for one in zip(*pairs, strict=True))
    ways = ((True, True), (True, False), (False, True), (False, False))
    assert first.minus(second) == paired_difference(*(pairs.count(way) for way in ways))


def test_rows_of_other_numbers_of_seeds_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="paired"):
        Success.counted({0: True}).minus(Success.counted({0: True, 1: True}))


def test_row_is_that_of_its_score_and_survives_json() -> None:
    score = Score("lift", "nominal", wilson(1, 2), {0: True, 1: False}, None, None)
    made = row("depth", "smaller", "original", score)
    assert (made.task, made.condition, made.success.failed) == ("lift", "nominal", (1,))
    assert type(made).model_validate_json(made.model_dump_json()) == made
