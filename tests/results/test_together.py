"""What is put together, and the front of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from results import front_picture
from results.action_error import ActionError
from results.combinations import EXACT, SEARCHED, combinations
from results.merges import MEAN_SCORES
from results.pruned_row import LatencyRatio
from results.row import Success
from results.together import TogetherRow, losses, with_front


def made(name: str, latency: float, failed: int, task: str = "lift", *, searched: bool = False) -> TogetherRow:
    return TogetherRow(
        study="together",
        bundle=name,
        baseline="exact",
        task=task,
        condition="side camera",
        success=Success.counted({seed: seed >= failed for seed in range(20)}),
        action_error=None if name == "exact" else ActionError(0.1, 0.1, 0.1, 0.1),
        combination=name,
        merge="exact",
        prune="",
        finetuned=0,
        precision="fp32",
        searched=searched,
        removed="",
        latency=LatencyRatio(latency, latency - 0.05, latency + 0.05),
        size=1_000_000,
    )


ROWS = [
    made("exact", 1.0, 2),
    made("merged", 0.8, 2),
    made("pruned", 0.5, 8, searched=True),
    made("worse", 0.9, 9),
    made("exact", 1.0, 0, "reach"),
]


def test_every_combination_has_a_name_and_a_directory_of_its_own() -> None:
    planned = combinations(300)
    assert planned[0] == EXACT
    assert len({one.name for one in planned}) == len({one.slug for one in planned}) == len(set(planned))
    assert set(SEARCHED) <= set(planned)
    assert all(one.merge == MEAN_SCORES for one in planned if one.finetuned)
    assert {one.precision for one in planned} == {"fp32", "fp16", "int8"}


def test_the_front_is_of_a_task() -> None:
    found = with_front(ROWS)
    assert [(row.combination, row.task) for row in found if row.front] == [
        ("merged", "lift"),
        ("pruned", "lift"),
        ("exact", "reach"),
    ]


def test_losses_are_against_the_uncompressed_one_of_the_same_task() -> None:
    found = {(one.task, one.combination): one.success.difference for one in losses(ROWS)}
    assert found == {
        ("lift", "merged"): pytest.approx(0.0),
        ("lift", "pruned"): pytest.approx(-0.3),
        ("lift", "worse"): pytest.approx(-0.35),
    }


def test_the_picture_is_one(tmp_path: Path) -> None:
    front_picture.draw(with_front(ROWS), tmp_path / "together.png")
    assert (tmp_path / "together.png").read_bytes().startswith(b"\x89PNG")
