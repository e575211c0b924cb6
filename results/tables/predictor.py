"""What the error of actions says of success."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from results.markdown import points, ranged, table
from results.predictor import BUDGETED, Association, Proposal, Within

_MEASURES = {
    "worst_share_of_scale": "worst number, share of its scale",
    "mean_joint_rad": "mean joint error",
    "relative": "relative error",
    "expert_rad": "distance from the expert",
}


def measures(figures: Mapping[str, Any]) -> str:
    """How well each measure orders the bundles."""
    found = [Association.model_validate(entry) for entry in figures["associations"]]
    return table(
        ["bundles", "measure", "bundles, rows", "harmed", "Spearman with lost success", "area under the ROC curve"],
        [
            [
                one.group,
                _MEASURES[one.measure],
                f"{one.bundles}, {one.rows}",
                str(one.harmed),
                ranged(one.spearman, one.spearman_interval),
                ranged(one.separation, one.separation_interval),
            ]
            for one in found
        ],
    )


def budgets(figures: Mapping[str, Any]) -> str:
    """What a budget lets through."""
    found = [Within.model_validate(entry) for entry in figures["within"]]
    shown = [one for one in found if one.measure == BUDGETED and one.rows and one.group in ("as exported", "all")]
    return table(
        ["bundles", "budget", "within it", "lost under 5 points", "harmed", "most lost [points]", "sound ones refused"],
        [
            [
                one.group,
                f"{one.budget:g}",
                str(one.rows),
                _of(one.kept, one.rows, one.kept_interval),
                str(one.harmed),
                _most_lost(one),
                "–" if one.refused is None else f"{one.refused:.0%}",
            ]
            for one in shown
        ],
    )


def proposals(figures: Mapping[str, Any]) -> str:
    """The largest budgets within which nothing was harmed."""
    found = [Proposal.model_validate(entry) for entry in figures["proposals"]]
    return table(
        [
            "bundles",
            "measure",
            "largest budget without harm",
            "rows within",
            "harmed at most (95 %)",
            "in other studies",
        ],
        [
            [
                one.group,
                _MEASURES[one.measure],
                "none" if one.budget is None else f"{one.budget:g}",
                str(one.rows),
                "–" if one.at_most is None else f"{one.at_most:.0%}",
                f"{one.others_harmed} of {one.others} harmed",
            ]
            for one in found
        ],
    )


def _most_lost(one: Within) -> str:
    if one.worst is None or one.worst_interval is None:
        return "–"
    low, high = one.worst_interval
    return f"{points(one.worst)} ({points(low)} to {points(high)}), `{one.worst_bundle}`, {one.worst_task}"


def _of(n: int, of: int, interval: tuple[float, float] | None) -> str:
    return f"{n} of {of}" + ("" if interval is None else f" ({100 * interval[0]:.0f}–{100 * interval[1]:.0f} %)")
