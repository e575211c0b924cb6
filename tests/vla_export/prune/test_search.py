"""The search on problems whose best plan is known, and in pieces."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_export.prune.search import Plan, Point, SearchResult, front, search
from vla_runtime.errors import BadInput, WorkFailed

Measure = Callable[[Plan], tuple[float, float]]


class Interrupted(Exception):
    """The machine went down."""


def toy(errors: dict[str, list[float]], share: float) -> Measure:
    """Every notch saves ``share``, and adds an error of its own knob."""

    def measure(plan: Plan) -> tuple[float, float]:
        return 1.0 - share * sum(plan.values()), sum(sum(errors[knob][:n]) for knob, n in plan.items())

    return measure


def counted(measure: Measure, limit: int | None = None) -> tuple[Measure, list[Plan]]:
    """The same, noting what was measured; at most so many times."""
    calls: list[Plan] = []

    def count(plan: Plan) -> tuple[float, float]:
        if len(calls) == limit:
            raise Interrupted
        calls.append(dict(plan))
        return measure(plan)

    return count, calls


def least(knobs: dict[str, int], measure: Measure, target: float) -> float:
    """By trying every plan there is."""
    plans = (
        dict(zip(knobs, notches, strict=True)) for notches in itertools.product(*(range(n + 1) for n in knobs.values()))
    )
    return min(error for cost, error in map(measure, plans) if cost <= target)


@settings(deadline=None)
@given(
    errors=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4).map(sorted), min_size=1, max_size=3),
    saved=st.integers(1, 8),
)
def test_the_best_plan_of_convex_errors_is_found(
    errors: list[list[int]], saved: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    by_knob = {f"knob {n}": [float(e) for e in row] for n, row in enumerate(errors)}
    knobs = {knob: len(row) for knob, row in by_knob.items()}
    measure = toy(by_knob, 0.05)
    target = 1.0 - 0.05 * min(saved, sum(knobs.values())) + 1e-9
    found = search(knobs, measure, target, tmp_path_factory.mktemp("search") / "state.json", "toy")
    assert found.pick.error == least(knobs, measure, target)
    assert found.pick.cost <= target
    assert SearchResult.model_validate_json(found.model_dump_json()) == found


def test_steps_that_save_more_may_cost_more(tmp_path: Path) -> None:
    """A notch of the one is half as dear, saves a quarter as much: the other is taken, until the last step."""

    def measure(plan: Plan) -> tuple[float, float]:
        return 1 - 0.2 * plan["layers"] - 0.05 * plan["channels"], 0.10 * plan["layers"] + 0.05 * plan["channels"]

    found = search({"layers": 3, "channels": 8}, measure, 0.551, tmp_path / "state.json", "toy")
    assert found.pick.plan == {"layers": 2, "channels": 1}


def test_a_notch_that_later_ones_made_needless_is_turned_back(tmp_path: Path) -> None:
    def measure(plan: Plan) -> tuple[float, float]:
        return 1 - 0.1 * plan["small"] - 0.5 * plan["large"], 0.01 * plan["small"] + 0.3 * plan["large"]

    found = search({"small": 1, "large": 1}, measure, 0.5, tmp_path / "state.json", "toy")
    assert found.pick.plan == {"small": 0, "large": 1}


@settings(deadline=None, max_examples=20)
@given(killed=st.lists(st.integers(0, 6), max_size=4))
def test_an_interrupted_search_goes_on_where_it_was(
    killed: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    errors = {"a": [1.0, 2.0, 4.0], "b": [3.0, 3.0], "c": [0.5, 9.0]}
    knobs = {knob: len(row) for knob, row in errors.items()}
    directory = tmp_path_factory.mktemp("search")
    through, expected = counted(toy(errors, 0.1))
    whole = search(knobs, through, 0.55, directory / "whole.json", "toy")

    state, made = directory / "state.json", []
    for limit in (*killed, None):
        measure, calls = counted(toy(errors, 0.1), limit)
        try:
            found = search(knobs, measure, 0.55, state, "toy")
        except Interrupted:
            assert limit is not None
        made += calls
        assert [json.loads(state.read_text())["tried"][n]["plan"] for n in range(len(made))] == made if made else True
        if len(made) == len(expected):
            break
    found = search(knobs, counted(toy(errors, 0.1), 0)[0], 0.55, state, "toy")
    assert made == expected
    assert found == whole
    assert [path.name for path in directory.iterdir() if path.name.startswith(".")] == []


def test_a_notch_that_saves_nothing_hides_none_behind_it(tmp_path: Path) -> None:
    """As the last language layer's, which no graph computes anyway."""

    def measure(plan: Plan) -> tuple[float, float]:
        return 1 - 0.1 * max(plan["a"] - 2, 0), float(plan["a"])

    found = search({"a": 4, "b": 3}, measure, 0.85, tmp_path / "state.json", "toy")
    assert found.pick.plan == {"a": 4, "b": 0}


def test_measurements_serve_another_target_too(tmp_path: Path) -> None:
    errors = {"a": [1.0, 2.0], "b": [3.0, 3.0]}
    search({"a": 2, "b": 2}, toy(errors, 0.1), 0.65, tmp_path / "state.json", "toy")
    found = search({"a": 2, "b": 2}, counted(toy(errors, 0.1), 0)[0], 0.85, tmp_path / "state.json", "toy")
    assert found.pick.plan == {"a": 2, "b": 0}


def test_progress_grows_to_the_end(tmp_path: Path) -> None:
    seen: list[float] = []
    search({"a": 3}, toy({"a": [1.0, 1.0, 1.0]}, 0.1), 0.71, tmp_path / "state.json", "toy", seen.append)
    assert seen == pytest.approx([0.0, 0.1 / 0.29, 0.2 / 0.29, 1.0])


def test_the_front_leaves_out_what_another_plan_beats() -> None:
    points = [
        Point(plan={"a": n}, cost=c, error=e)
        for n, (c, e) in enumerate([(1, 0), (0.8, 2), (0.7, 1), (0.7, 3), (0.5, 4)])
    ]
    assert [point.plan["a"] for point in front(points)] == [0, 2, 4]


def test_a_target_out_of_reach_says_what_is_within(tmp_path: Path) -> None:
    with pytest.raises(WorkFailed, match="costs 80% of the whole"):
        search({"a": 2}, toy({"a": [1.0, 1.0]}, 0.1), 0.5, tmp_path / "state.json", "toy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"identity": "another", "tried": []}', r"state of another search \(another\)"),
        ("[]", "no state of a search"),
        ("", "no state"),
    ],
)
def test_the_state_of_something_else_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(BadInput, match=message):
        search({"a": 1}, toy({"a": [1.0]}, 0.5), 0.5, tmp_path / "state.json", "toy")
