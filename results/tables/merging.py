"""What became of adapters when they were merged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from results.kept_exact import Kind
from results.markdown import decided, difference, ranged, share, table
from results.merging import METHODS, MergeRow
from results.tables.lines import lines_of
from vla_evaluation.intervals import PairedDifference


def success(figures: Mapping[str, Any]) -> str:
    """Every merge of every adapter."""
    rows = [MergeRow.model_validate(row) for row in figures["rows"]]
    tasks = list(dict.fromkeys(row.task for row in rows))
    lines = []
    for group in lines_of(rows, lambda row: (row.method, row.merge)):
        first, middle = group[0], group[0].latency
        lines.append(
            [
                METHODS[first.method],
                first.merge,
                f"{first.exact} of {first.linears}",
                *(row.success.text() for row in group),
                *(share(row.action_error) for row in group),
                ranged(middle[0], middle[1:]),
            ]
        )
    head = ["adapter", "merge", "linears kept exact", *tasks, *(f"{task}: off exact" for task in tasks)]
    return table([*head, "time / exact"], lines)


def differences(figures: Mapping[str, Any]) -> str:
    """Merges whose success surely differs."""
    entries = [(entry, _paired(entry["difference"])) for entry in figures["comparisons"]]
    return table(
        ["adapter", "task", "first", "less", "points"],
        [
            [
                METHODS[entry["method"]],
                entry["task"],
                entry["merge"],
                entry["against"],
                difference(paired),
            ]
            for entry, paired in entries
            if decided(paired)
        ],
    )


def layers(figures: Mapping[str, Any]) -> str:
    """Which linears stay exact at which budget, and what merging them would lose."""
    kinds = {method: [Kind.model_validate(kind) for kind in found] for method, found in figures["kinds"].items()}
    budgets = list(next(iter(kinds.values()))[0].exact)
    return table(
        [
            "adapter",
            "linears",
            "directions a token uses",
            "share of output",
            "lost, least squares",
            "lost, mean scores",
            *(f"exact at {budget}" for budget in budgets),
        ],
        [
            [
                METHODS[method],
                f"{kind.stack} {kind.kind}",
                f"{kind.mean_rank:.1f}",
                f"{kind.share:.2g}",
                f"{kind.residual_least_squares:.2f}",
                f"{kind.residual_mean_scores:.2f}",
                *(f"{kind.exact[budget]} of {kind.linears}" for budget in budgets),
            ]
            for method, found in kinds.items()
            for kind in found
        ],
    )


def _paired(entry: Mapping[str, Any]) -> PairedDifference:
    return TypeAdapter(PairedDifference).validate_python(entry)
