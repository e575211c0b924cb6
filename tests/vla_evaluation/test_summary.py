"""Figures of outcomes whose figures are plain to see."""

from __future__ import annotations

import pytest

from tests.vla_evaluation.outcomes import outcome
from vla_evaluation.intervals import paired_difference, wilson
from vla_evaluation.summary import compare, summarise


def test_rates_and_medians() -> None:
    outcomes = [
        outcome(0, succeeded_at=1.0, path_length=0.2),
        outcome(1, succeeded_at=4.0, path_length=0.3, holding=False),
        outcome(2, False, path_length=0.7, jerk=None),
    ]
    (row,) = summarise(outcomes, ["nominal"], ["bundle"]).rows
    assert row.success == wilson(2, 3)
    assert row.holding == wilson(1, 3)
    assert row.succeeded_at == 2.5
    assert row.path_length == 0.3
    assert row.jerk == 3.0
    assert row.interventions is None
    assert row.cut_short == {}


def test_what_cut_episodes_short_is_counted_by_its_reason() -> None:
    reasons = ("late", None, "diverged", "late")
    outcomes = [outcome(seed, ended_because=reason) for seed, reason in enumerate(reasons)]
    (row,) = summarise(outcomes, ["nominal"], ["bundle"]).rows
    assert row.cut_short == {"late": 2, "diverged": 1}


def test_nothing_succeeded() -> None:
    (row,) = summarise([outcome(0, False)], ["nominal"], ["bundle"]).rows
    assert row.succeeded_at is None
    assert row.success.rate == 0


def test_interventions_add_up_and_an_idle_safety_layer_is_not_a_missing_one() -> None:
    busy = [outcome(0, interventions={"velocity_limit": 2}), outcome(1, interventions={"velocity_limit": 1, "x": 5})]
    (row,) = summarise(busy, ["nominal"], ["bundle"]).rows
    assert row.interventions == {"velocity_limit": 3, "x": 5}
    (row,) = summarise([outcome(0, interventions={})], ["nominal"], ["bundle"]).rows
    assert row.interventions == {}


def test_rows_keep_bundles_and_conditions_apart() -> None:
    outcomes = [
        outcome(0, bundle=bundle, condition=condition, success=bundle == "bundle" or condition == "dark")
        for bundle in ("bundle", "against")
        for condition in ("nominal", "dark")
    ]
    summary = summarise(outcomes, ["nominal", "dark"], ["bundle", "against"])
    found = [(row.condition, row.bundle, row.success.successes) for row in summary.rows]
    assert found == [("nominal", "bundle", 1), ("nominal", "against", 0), ("dark", "bundle", 1), ("dark", "against", 1)]
    assert [(entry.condition, entry.success.difference) for entry in summary.comparisons] == [
        ("nominal", 1),
        ("dark", 0),
    ]


def test_pairs_are_made_by_seed_not_by_order() -> None:
    first = [outcome(0, True), outcome(1, True), outcome(2, False), outcome(3, False)]
    second = [outcome(3, False), outcome(2, True), outcome(1, False), outcome(0, True)]
    assert compare(first, second) == paired_difference(1, 1, 1, 1)


def test_other_seeds_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="different seeds"):
        compare([outcome(0)], [outcome(1)])
