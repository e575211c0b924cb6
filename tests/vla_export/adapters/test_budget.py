"""The choice of what to merge, with made-up effects."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hypothesis import given
from hypothesis import strategies as st

from vla_export.adapters.budget import TRIALS, Unit, choose_static


class Effects:
    """Errors of linears, which add in squares; counts and remembers what it was asked."""

    def __init__(self, errors: Mapping[str, float]) -> None:
        self.errors = errors
        self.asked: list[frozenset[str]] = []

    def __call__(self, paths: Collection[str]) -> float:
        self.asked.append(frozenset(paths))
        return sum(self.errors[path] ** 2 for path in paths) ** 0.5


def units(errors: Mapping[str, float], size: int, savings: Mapping[str, float] | None = None) -> list[Unit]:
    """Units of ``size`` linears each; losses are the squares of the errors, as true as they can be."""
    paths = list(errors)
    return [
        Unit(
            f"unit {n}",
            {path: errors[path] ** 2 for path in paths[n : n + size]},
            {path: 1.0 if savings is None else savings[path] for path in paths[n : n + size]},
        )
        for n in range(0, len(paths), size)
    ]


@given(st.lists(st.floats(0, 0.05), min_size=1, max_size=40), st.integers(1, 5), st.floats(1e-4, 0.1))
def test_what_is_chosen_was_measured_and_is_within_the_budget(errors: list[float], size: int, budget: float) -> None:
    effects = Effects({f"l{n}": error for n, error in enumerate(errors)})
    choice = choose_static(units(effects.errors, size), Effects(effects.errors), effects, budget)
    assert not choice.static or choice.static in effects.asked
    assert effects(choice.static) <= budget
    assert choice.trials == len(effects.asked) - 1 <= TRIALS


def test_everything_is_merged_where_it_may_be_and_nothing_is_tried_alone() -> None:
    alone, together = Effects({}), Effects(dict.fromkeys("abc", 0.001))
    choice = choose_static(units(together.errors, 1), alone, together, 0.01)
    assert (choice.static, choice.trials, alone.asked) == (frozenset("abc"), 1, [])


def test_nothing_is_merged_where_nothing_may_be() -> None:
    effects = Effects(dict.fromkeys("abc", 0.5))
    assert choose_static(units(effects.errors, 1), effects, effects, 0.01).static == frozenset()


def test_true_effects_give_the_best_choice() -> None:
    """Equal savings: the best are the smallest errors, as many as fit."""
    errors = {f"l{n}": 0.001 * (n % 20 + 1) for n in range(40)}
    effects = Effects(errors)
    chosen = choose_static(units(errors, 5), effects, effects, 0.02).static
    total, best = 0.0, 0
    for error in sorted(errors.values()):
        total += error**2
        best += total <= 0.02**2
    assert len(chosen) == best


def test_of_equal_errors_the_dearest_are_merged() -> None:
    effects = Effects(dict.fromkeys("abcd", 0.008))
    savings = {"a": 1.0, "b": 9.0, "c": 2.0, "d": 5.0}
    assert choose_static(units(effects.errors, 1, savings), effects, effects, 0.012).static == frozenset("bd")


def test_one_misjudged_linear_does_not_keep_the_others_from_merging() -> None:
    """It does next to nothing alone, on few samples, and breaks the budget on all."""
    errors = {f"l{n:02d}": 1e-4 for n in range(30)} | {"l07": 0.5}
    alone = Effects({**errors, "l07": 1e-6})
    choice = choose_static(units(alone.errors, 1), alone, Effects(errors), 0.01)
    assert choice.static == frozenset(errors) - {"l07"}


def test_a_policy_that_breaks_down_is_no_reason_to_merge() -> None:
    def breaks(paths: Collection[str]) -> float:
        return float("inf") if "a" in paths else 0.0

    choice = choose_static([Unit("u", {"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 1.0})], breaks, breaks, 0.01)
    assert choice.static == frozenset("b")
