"""Which linears may be merged at which error budget, and what merging them would lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel, ConfigDict

from vla_export.adapters.merge import MergeReport
from vla_export.adapters.static_merge import StaticLayer
from vla_export.report.report import ExportReport
from vla_runtime.errors import BadInput


class Kind(BaseModel):
    """All linears of one kind in one stack, as measured on the samples that merging is chosen by.

    share: the branches' energy as a share of the linears' whole outputs', mean. residual_least_squares,
    residual_mean_scores: energy that the merged branches are off by, as a share of their own, mean. lost: the first of
    them times share, mean: what the next layer sees of it. mean_rank: directions that a token uses, mean. alone: worst
    number's error of the action, as a share of its scale, when they alone are merged; None where it was not tried.
    exact: how many stay exact, by budget.
    """

    model_config = ConfigDict(frozen=True)

    stack: str
    kind: str
    linears: int
    share: float
    residual_least_squares: float
    residual_mean_scores: float
    lost: float
    mean_rank: float
    alone: float | None
    exact: dict[str, int]


def kinds(reports: Mapping[float, MergeReport]) -> list[Kind]:
    """Of the merges that ``--merge auto`` made of one adapter, by their budgets; those that lose most come first.

    Raises `BadInput` where nothing was chosen.
    """
    fits = {budget: _fits(report) for budget, report in reports.items()}
    first = next(iter(reports))
    ranks = {layer.layer.path: layer.mean_rank for layer in reports[first].exact.layers}
    alone = {} if (static := reports[first].static) is None else static.alone
    groups: dict[tuple[str, str], list[StaticLayer]] = {}
    for fit in fits[first]:
        groups.setdefault((fit.stack, fit.kind), []).append(fit)
    found = [
        Kind(
            stack=stack,
            kind=kind,
            linears=len(group),
            share=fmean(fit.share for fit in group),
            residual_least_squares=fmean(fit.residual_least_squares for fit in group),
            residual_mean_scores=fmean(fit.residual_mean_scores for fit in group),
            lost=fmean(fit.residual_least_squares * fit.share for fit in group),
            mean_rank=fmean(ranks[fit.path] for fit in group),
            alone=alone.get(f"{stack} {kind}"),
            exact={
                f"{budget:g}": sum((fit.stack, fit.kind, fit.decision) == (stack, kind, "exact") for fit in these)
                for budget, these in fits.items()
            },
        )
        for (stack, kind), group in groups.items()
    ]
    return sorted(found, key=lambda entry: -entry.lost)


def merge_report(bundle: Path) -> MergeReport:
    """What vla-export says of the merge; raises `BadInput` where it says nothing."""
    path = bundle / "report" / "report.json"
    report = ExportReport.model_validate_json(path.read_text(encoding="utf-8")).merge
    if report is None:
        raise BadInput(f"{path} tells of no merge: export the bundle with --merge")
    return report


def _fits(report: MergeReport) -> Sequence[StaticLayer]:
    if report.static is None:
        raise BadInput(f"nothing of the adapter was to be merged, {report.reason}: merge it with auto on a recording")
    return report.static.layers
