"""Pooling what studies found, and what a budget for action errors would have let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.action_error import ActionError
from results.pool import HARM, Judged, pool
from results.predictor import BUDGETED, BUDGETS, associations, proposals, within
from results.predictor_picture import draw
from results.row import Row, Success
from vla_evaluation.intervals import paired_difference
from vla_runtime.errors import BadInput

OF = 100


def figures(study: str, *bundles: tuple[str, float, int], finetuned: int = 0) -> dict[str, object]:
    """A study's: of each bundle its name, its error and how many of 100 it failed; nothing failed before."""
    rows = [made(study, "whole", None, 0), *(made(study, *bundle) for bundle in bundles)]
    return {"rows": [row.model_dump(mode="json") | {"finetuned": finetuned, "removed": "?"} for row in rows]}


def made(study: str, bundle: str, error: float | None, failed: int) -> Row:
    return Row(
        study=study,
        bundle=bundle,
        baseline="whole",
        task="lift",
        condition="nominal",
        success=Success.counted({seed: seed >= failed for seed in range(OF)}),
        action_error=None if error is None else ActionError(error, error, error, error),
    )


def pooled(study: str, *bundles: tuple[str, float, int]) -> list[Judged]:
    return pool({study: figures(study, *bundles)})


def test_pool_holds_what_was_lost_against_the_baseline() -> None:
    (one,) = pooled("depth", ("smaller", 0.03, 20))
    assert (one.study, one.bundle, one.error.worst_share_of_scale) == ("depth", "smaller", 0.03)
    assert one.lost.difference == pytest.approx(0.2)
    assert one.harmed


def test_a_bundle_counts_once_and_the_unadapted_policy_not_at_all() -> None:
    found = pooled("depth", ("smaller", 0.03, 20), ("smaller", 0.03, 20), ("original", 2.0, 100))
    assert [one.bundle for one in found] == ["smaller"]


def test_a_bundle_whose_baseline_was_not_run_is_refused() -> None:
    rows = [made("depth", "smaller", 0.1, 1).model_dump(mode="json")]
    with pytest.raises(BadInput, match=r"no row of whole .* python -m results\.depth"):
        pool({"depth": {"rows": rows}})


def test_few_failures_are_no_harm_as_long_as_they_may_be_chance() -> None:
    by_name = {one.bundle: one for one in pooled("depth", ("a", 0.1, 3), ("b", 0.1, 9))}
    assert not by_name["a"].harmed
    assert by_name["b"].harmed


def test_five_points_are_five_points_whatever_the_rates_they_are_between() -> None:
    assert 55 / 60 - 52 / 60 < 0.05
    lost = paired_difference(52, 3, 0, 5)
    error = ActionError(mean_joint_rad=0.1, worst_share_of_scale=0.1, relative=0.1, expert_rad=0.1)
    assert not Judged("merging", "a", "lift", "nominal", False, error, lost).kept


def test_errors_that_order_the_losses_are_found_to() -> None:
    found = pooled("depth", *((f"b{n}", 0.01 * (n + 1), 4 * n) for n in range(8)))
    everything = next(one for one in associations(found) if (one.group, one.measure) == ("all", BUDGETED))
    assert everything.spearman == pytest.approx(1.0)
    assert everything.separation == pytest.approx(1.0)
    assert (everything.bundles, everything.rows) == (8, 8)


def test_where_nothing_was_harmed_there_is_nothing_to_tell_apart() -> None:
    for one in associations(pooled("depth", ("a", 0.1, 0), ("b", 0.2, 0))):
        assert (one.harmed, one.separation, one.separation_interval) == (0, None, None)


def test_a_budget_lets_through_what_is_within_it() -> None:
    found = pooled("depth", ("a", 0.004, 0), ("b", 0.02, 1), ("c", 0.04, 30), ("d", 0.4, 2))
    table = {one.budget: one for one in within(found) if (one.group, one.measure) == ("pruned", BUDGETED)}
    assert [table[budget].rows for budget in BUDGETS] == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4]
    assert (table[0.02].kept, table[0.02].harmed, table[0.02].worst) == (2, 0, pytest.approx(0.01))
    assert (table[0.05].worst_bundle, table[0.05].kept, table[0.05].harmed) == ("c", 2, 1)
    assert table[0.02].refused == pytest.approx(1 / 3)
    assert table[0.001].worst is None


def test_the_largest_budget_without_harm_is_proposed_and_tried_on_other_studies() -> None:
    found = [
        *pooled("depth", ("a", 0.004, 0), ("b", 0.02, 1), ("c", 0.04, 30)),
        *pooled("merging", ("m", 0.01, 40), ("n", 0.9, 90)),
    ]
    by_group = {one.group: one for one in proposals(found) if one.measure == BUDGETED}
    pruned, merged = by_group["pruned"], by_group["merged"]
    assert (pruned.budget, pruned.rows, pruned.others, pruned.others_harmed) == (0.03, 2, 1, 1)
    assert pruned.at_most is not None
    assert 0.5 < pruned.at_most < 0.8  # two rows are no proof
    assert (merged.budget, merged.at_most) == (None, None)


def test_finetuned_bundles_are_no_evidence_for_a_default() -> None:
    found = pool({"depth": figures("depth", ("a", 0.5, 0), finetuned=300)})
    assert found[0].finetuned
    assert proposals(found) == []


def test_the_picture_is_one(tmp_path: Path) -> None:
    draw(pooled("depth", ("a", 0.0, 0), ("b", 0.3, round(100 * HARM))), 0.01, tmp_path / "predictor.png")
    assert (tmp_path / "predictor.png").read_bytes().startswith(b"\x89PNG")
