"""The committed weights still do what they were trained for: a few scenes, and floors far below the measured rates."""

import pytest

from benchmarks.reference_policy import WEIGHTS, Row, measure

EPISODES = 6


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, bool], Row]:
    return {(row.task, row.swapped): row for row in measure(EPISODES)}


@pytest.mark.parametrize(("task", "floor"), [("reach", 0.6), ("lift", 0.5), ("place", 0.15)])
def test_tasks_are_achieved(rows: dict[tuple[str, bool], Row], task: str, floor: float) -> None:
    assert rows[task, False].n == EPISODES
    assert rows[task, False].success >= floor


def test_the_instruction_decides_which_cube(rows: dict[tuple[str, bool], Row]) -> None:
    assert rows["reach", True].success >= 0.6
    assert rows["lift", True].success >= 0.5


def test_the_weights_are_small() -> None:
    files = [path for path in WEIGHTS.parent.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
