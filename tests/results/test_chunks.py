"""Rows of the chunk study, and its picture."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest

from results.chunk_picture import draw
from results.chunk_trials import Trial, TrialOutcome
from results.chunks import DEFAULT, NAMES, ChunkRow, comparisons, rows, trials

CELLS = [(0.04, 0.0), (0.04, 0.3), (0.0, 0.3)]


def outcomes(episodes: int = 4) -> list[TrialOutcome]:
    """`DEFAULT` succeeds on even seeds, the others always; jerk is 1 in even seeds and 7 in odd ones."""
    return [
        TrialOutcome(
            trial=one,
            succeeded_at=None if one.strategy == DEFAULT and one.seed % 2 else 2.0 + one.seed,
            squares=4 * (49.0 if one.seed % 2 else 1.0),
            jerks=4,
            off=(0.1, 0.2),
        )
        for one in trials(CELLS, episodes)
    ]


def test_a_cell_has_every_strategy_on_the_same_seeds() -> None:
    planned = list(trials(CELLS, 2))
    assert len(planned) == len(set(planned)) == 2 * len(CELLS) * len(NAMES)
    assert {one.seed for one in planned[: len(CELLS) * len(NAMES)]} == {0}


def test_a_row_pools_its_episodes() -> None:
    row = next(row for row in rows(outcomes()) if row.strategy == DEFAULT)
    assert (row.success.n, row.success.failed) == (2, (1, 3))
    assert row.succeeded_at == pytest.approx(3.0)
    assert row.jerk == pytest.approx(sqrt((1 + 49) / 2))
    assert 1.0 <= row.jerk_low < row.jerk < row.jerk_high <= 7.0


def test_the_more_episodes_the_surer_is_the_jerk() -> None:
    few, many = (rows(outcomes(episodes))[0] for episodes in (4, 64))
    assert few.jerk == pytest.approx(many.jerk)
    assert many.jerk_high - many.jerk_low < 0.5 * (few.jerk_high - few.jerk_low)


def test_strategies_are_compared_where_belt_and_latency_are_the_same() -> None:
    found = comparisons(rows(outcomes()))
    assert len(found) == len(CELLS) * (len(NAMES) - 1)
    for one in found:
        assert one.second == DEFAULT
        assert one.success.difference == pytest.approx(0.5)


def test_a_latency_without_success_has_no_time(tmp_path: Path) -> None:
    never = [TrialOutcome(trial=Trial(speed=0.04, latency=0.1, strategy=name, seed=0), succeeded_at=None, squares=1.0,
                          jerks=1, off=(0.1,)) for name in NAMES]  # fmt: skip
    found = rows(never)
    assert [row.succeeded_at for row in found] == [None] * len(NAMES)
    assert ChunkRow.model_validate_json(found[0].model_dump_json()) == found[0]
    draw(found, tmp_path / "chunks.png")
    assert (tmp_path / "chunks.png").read_bytes().startswith(b"\x89PNG")
