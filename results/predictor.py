"""Whether the error of a bundle's actions on recorded observations says what it does in closed loop.

    python -m results.predictor

Reads what the other studies found: every bundle that was measured both ways, over all of them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from results import figures, predictor_picture
from results.action_error import ActionError
from results.association import Statistic, bootstrapped, separation, spearman
from results.places import FIGURES, PICTURES
from results.pool import HARM, STUDIES, Judged, pool
from vla_evaluation.figures import rate
from vla_evaluation.intervals import wilson
from vla_export.error_budget import DEFAULT_BUDGET
from vla_runtime.command import DONE, Parser, run
from vla_runtime.errors import BadInput

STUDY = "predictor"
MEASURES = tuple(field.name for field in fields(ActionError))
BUDGETED = "worst_share_of_scale"
"""What ``vla-export --error-budget`` bounds."""

BUDGETS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)

GROUPS: Mapping[str, Callable[[Judged], bool]] = {
    "all": lambda one: True,
    "as exported": lambda one: not one.finetuned,
    "finetuned": lambda one: one.finetuned,
    "merged": lambda one: one.study == "merging",
    "pruned": lambda one: one.study in ("depth", "width") and not one.finetuned,
    "together, as exported": lambda one: one.study == "together" and not one.finetuned,
}
"""As exported: nothing was trained after the compression."""

PROPOSED_FOR = ("merged", "pruned", "as exported")


class Association(BaseModel):
    """How well a measure orders the bundles of a group by what they lost.

    bundles, rows: how many; a bundle has a row for each task and condition. spearman: with lost success. harmed: rows
    that were. separation: area under the ROC curve of harmed against not. Intervals: 95 %, bundles resampled. None:
    not defined.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str
    measure: str
    bundles: int
    rows: int
    spearman: float | None
    spearman_interval: tuple[float, float] | None
    harmed: int
    separation: float | None
    separation_interval: tuple[float, float] | None


class Within(BaseModel):
    """Those rows of a group whose measure is at most ``budget``.

    kept: lost less than `HARM`, with Wilson's 95 % interval of the share. harmed: lost as much or more, and surely
    something. worst: the most that was lost, as a share of episodes and with its 95 % interval, by ``worst_bundle`` on
    ``worst_task``.
    refused: share of the rows which kept their success that the budget would refuse. None where nothing is within.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str
    measure: str
    budget: float
    rows: int
    kept: int
    kept_interval: tuple[float, float] | None
    harmed: int
    worst: float | None
    worst_interval: tuple[float, float] | None
    worst_bundle: str | None
    worst_task: str | None
    refused: float | None


class Proposal(BaseModel):
    """The largest of `BUDGETS` within which no row of a group was harmed; None where there is none.

    rows: of the group, within it. at_most: with 95 % confidence no more of such rows are harmed than this share.
    others, others_harmed: rows as exported of all other studies within it, and how many of those were harmed: the
    proposal has not seen them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str
    measure: str
    budget: float | None
    rows: int
    at_most: float | None
    others: int
    others_harmed: int


def associations(pooled: Sequence[Judged]) -> list[Association]:
    """Of every group that has rows, by every measure."""
    return [_association(group, measure, chosen) for group, chosen in _grouped(pooled).items() for measure in MEASURES]


def _association(group: str, measure: str, chosen: Sequence[Judged]) -> Association:
    errors = _errors(chosen, measure)
    lost = np.array([one.lost.difference for one in chosen])
    harmed = np.array([float(one.harmed) for one in chosen])
    clusters = [one.bundle for one in chosen]
    rho, rho_interval = _with_interval(spearman, errors, lost, clusters)
    area, area_interval = _with_interval(separation, errors, harmed, clusters)
    return Association(
        group=group,
        measure=measure,
        bundles=len(set(clusters)),
        rows=len(chosen),
        spearman=rho,
        spearman_interval=rho_interval,
        harmed=int(harmed.sum()),
        separation=area,
        separation_interval=area_interval,
    )


def _with_interval(
    statistic: Statistic, x: NDArray[np.float64], y: NDArray[np.float64], clusters: Sequence[str]
) -> tuple[float | None, tuple[float, float] | None]:
    value = statistic(x, y)
    return (None, None) if math.isnan(value) else (value, bootstrapped(statistic, x, y, clusters))


def within(pooled: Sequence[Judged]) -> list[Within]:
    """Of every group that has rows, every measure and every budget."""
    return [
        _within(group, measure, budget, chosen)
        for group, chosen in _grouped(pooled).items()
        for measure in MEASURES
        for budget in BUDGETS
    ]


def _within(group: str, measure: str, budget: float, chosen: Sequence[Judged]) -> Within:
    passing = [one for one in chosen if getattr(one.error, measure) <= budget]
    kept = [one for one in chosen if one.kept]
    kept_within = [one for one in passing if one.kept]
    worst = max(passing, key=lambda one: one.lost.difference, default=None)
    interval = wilson(len(kept_within), len(passing)) if passing else None
    return Within(
        group=group,
        measure=measure,
        budget=budget,
        rows=len(passing),
        kept=len(kept_within),
        kept_interval=None if interval is None else (interval.lower, interval.upper),
        harmed=sum(one.harmed for one in passing),
        worst=None if worst is None else worst.lost.difference,
        worst_interval=None if worst is None else (worst.lost.lower, worst.lost.upper),
        worst_bundle=None if worst is None else worst.bundle,
        worst_task=None if worst is None else worst.task,
        refused=1 - len(kept_within) / len(kept) if kept else None,
    )


def proposals(pooled: Sequence[Judged]) -> list[Proposal]:
    """For merging, for pruning, and for both, by every measure."""
    grouped = _grouped(pooled)
    return [
        _proposal(group, measure, grouped[group], pooled)
        for group in PROPOSED_FOR
        if group in grouped
        for measure in MEASURES
    ]


def _proposal(group: str, measure: str, chosen: Sequence[Judged], pooled: Sequence[Judged]) -> Proposal:
    fitting = [found for budget in BUDGETS if (found := _within(group, measure, budget, chosen)).rows]
    safe = [found for found in fitting if found.harmed == 0]
    if not safe:
        return Proposal(group=group, measure=measure, budget=None, rows=0, at_most=None, others=0, others_harmed=0)
    best = safe[-1]
    seen = {one.study for one in chosen}
    unseen = [
        one
        for one in pooled
        if one.study not in seen and not one.finetuned and getattr(one.error, measure) <= best.budget
    ]
    return Proposal(
        group=group,
        measure=measure,
        budget=best.budget,
        rows=best.rows,
        at_most=wilson(0, best.rows).upper,
        others=len(unseen),
        others_harmed=sum(one.harmed for one in unseen),
    )


def _grouped(pooled: Sequence[Judged]) -> dict[str, list[Judged]]:
    found = {group: [one for one in pooled if belongs(one)] for group, belongs in GROUPS.items()}
    return {group: chosen for group, chosen in found.items() if chosen}


def _errors(chosen: Sequence[Judged], measure: str) -> NDArray[np.float64]:
    return np.array([getattr(one.error, measure) for one in chosen], dtype=np.float64)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run(lambda: _study(argv))


def _study(argv: Sequence[str] | None) -> int:
    Parser(prog=f"python -m results.{STUDY}", description="Does the error of actions predict success?").parse_args(argv)
    made = [study for study in STUDIES if (FIGURES / f"{study}.json").is_file()]
    pooled = pool({study: figures.read(study) for study in made})
    if not pooled:
        raise BadInput(f"no bundle was measured yet: make the figures of {', '.join(STUDIES)} first")
    found = associations(pooled)
    budgets, proposed = within(pooled), proposals(pooled)
    content = {
        "studies": made,
        "harm": HARM,
        "current_default": DEFAULT_BUDGET,
        "rows": len(pooled),
        "associations": found,
        "within": budgets,
        "proposals": proposed,
    }
    figures.write(STUDY, content)
    PICTURES.mkdir(parents=True, exist_ok=True)
    predictor_picture.draw(pooled, DEFAULT_BUDGET, PICTURES / f"results_{STUDY}.png")
    _show(found, budgets, proposed)
    return DONE


def _show(found: Sequence[Association], budgets: Sequence[Within], proposed: Sequence[Proposal]) -> None:
    console = Console()
    table = Table("bundles", "measure", "rows", "harmed", "Spearman with lost success", "area under ROC")
    for one in found:
        table.add_row(
            one.group,
            one.measure,
            str(one.rows),
            str(one.harmed),
            _figure(one.spearman, one.spearman_interval),
            _figure(one.separation, one.separation_interval),
        )
    console.print(table)
    limits = Table("bundles", f"{BUDGETED} at most", "rows", "lost under 5 points", "harmed", "most lost", "refused")
    for row in budgets:
        if row.measure == BUDGETED and row.rows:
            limits.add_row(
                row.group,
                f"{row.budget:g}",
                str(row.rows),
                rate(wilson(row.kept, row.rows)),
                str(row.harmed),
                f"{100 * (row.worst or 0):.0f} points, {row.worst_bundle}, {row.worst_task}",
                "–" if row.refused is None else f"{row.refused:.0%}",
            )
    console.print(limits)
    for one_proposal in proposed:
        console.print(one_proposal)


def _figure(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if interval is None else f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


if __name__ == "__main__":
    sys.exit(main())
