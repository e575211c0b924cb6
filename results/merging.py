"""What becomes of a trained input-conditional adapter when it is merged: success, actions, latency.

``python -m results.merging`` merges the LoRA-SP and the VLA-GSE adapter, trained in the shifted setting: kept exact,
by least squares (calibrated on both tasks, and on lift alone), by mean scores, and by ``auto`` at four error budgets.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from results import figures, merging_picture
from results.action_error import action_error
from results.adapt import adapter
from results.arguments import Arguments, arguments
from results.kept_exact import Kind, kinds, merge_report
from results.latency import ratio
from results.merges import EXACT, MEAN_SCORES, WHOLE, Merge, merges
from results.observations import held_out
from results.places import PICTURES
from results.recipes import export_all
from results.row import Row, row
from results.setting import CONDITION, TASKS
from results.success import success
from vla_evaluation.figures import difference
from vla_evaluation.intervals import PairedDifference
from vla_runtime.command import DONE, run

STUDY = "merging"
METHODS = {"lora_sp": "LoRA-SP", "vla_gse": "VLA-GSE"}
_ROUNDS, _QUICK_ROUNDS = 300, 20


class MergeRow(Row):
    """method: of `METHODS`. merge: how it was merged. budget: of ``auto``, None for other merges.

    exact, linears: how many of the adapter's linears keep their branch. latency: a chunk's time as a share of the exact
    policy's, median of rounds in turns and its 95 % interval.
    """

    method: str
    merge: str
    budget: float | None
    exact: int
    linears: int
    latency: tuple[float, float, float]


@dataclass(frozen=True)
class Comparison:
    """Two merges of one method on the same seeds of one task."""

    method: str
    task: str
    merge: str
    against: str
    difference: PairedDifference


def main(argv: Sequence[str] | None = None) -> int:
    """The study; returns its exit code."""
    return run(lambda: _study(arguments(STUDY, "Merging trained adapters, in closed loop.", argv)))


def _study(asked: Arguments) -> int:
    torch.set_num_threads(1)
    rows: list[MergeRow] = []
    lost: dict[str, list[Kind]] = {}
    for method in METHODS:
        ways = merges(method, adapter(method))
        bundles = export_all([way.recipe for way in ways], asked.workers)
        rows += measure(method, ways, bundles, asked)
        lost[method] = kinds(
            {way.budget: merge_report(bundles[way.recipe.name]) for way in ways if way.budget is not None}
        )
    compared = comparisons(rows)
    _show(rows, compared, lost)
    if not asked.quick:
        figures.write(STUDY, {"rows": rows, "comparisons": compared, "kinds": lost})
        merging_picture.draw(rows, METHODS, PICTURES / "results_merging.png")
    return DONE


def measure(method: str, ways: Sequence[Merge], bundles: Mapping[str, Path], asked: Arguments) -> list[MergeRow]:
    """Every way on every task in the shifted setting; ``bundles`` by the names of their recipes."""
    exact = bundles[ways[0].recipe.name]
    linears = sum(merge_report(exact).counts().values())
    rows = []
    for way in ways:
        bundle = bundles[way.recipe.name]
        latency = ratio(bundle, exact, _QUICK_ROUNDS if asked.quick else _ROUNDS)
        for task in TASKS:
            score = success(bundle, task, asked.episodes, condition=CONDITION, workers=asked.workers)
            error = None if bundle == exact else action_error(bundle, exact, held_out((task,), True))
            rows.append(
                MergeRow(
                    **dict(row(STUDY, bundle.name, exact.name, score, error)),
                    method=method,
                    merge=way.name,
                    budget=way.budget,
                    exact=merge_report(bundle).counts().get("exact", 0) if way.reported else 0,
                    linears=linears,
                    latency=latency,
                )
            )
    return rows


def comparisons(rows: Sequence[MergeRow]) -> list[Comparison]:
    """Every merge against the exact one, and least squares against mean scores, by method and task."""
    found = {(row.method, row.task, row.merge): row for row in rows}
    pairs = [(merge, EXACT) for merge in dict.fromkeys(row.merge for row in rows) if merge != EXACT]
    return [
        Comparison(method, task, merge, against, one.success.minus(found[method, task, against].success))
        for merge, against in [*pairs, (WHOLE, MEAN_SCORES)]
        for (method, task, name), one in found.items()
        if name == merge
    ]


def _show(rows: Sequence[MergeRow], compared: Sequence[Comparison], lost: Mapping[str, Sequence[Kind]]) -> None:
    console = Console()
    table = Table("adapter", "merge", "kept exact", "task", "success", "off exact [share of scale]", "time / exact")
    for found in rows:
        error = found.action_error
        middle, low, high = found.latency
        table.add_row(
            METHODS[found.method],
            found.merge,
            f"{found.exact} of {found.linears}",
            found.task,
            found.success.text(),
            "–" if error is None else f"{error.worst_share_of_scale:.4f}",
            f"{middle:.2f} ({low:.2f}–{high:.2f})",
        )
    console.print(table)
    for entry in compared:
        console.print(
            f"{METHODS[entry.method]}, {entry.task}: {entry.merge} − {entry.against}: {difference(entry.difference)}, "
            f"p = {entry.difference.p_value:.3f}",
            highlight=False,
        )
    for method, entries in lost.items():
        console.print(_kinds_table(METHODS[method], entries))


def _kinds_table(method: str, entries: Sequence[Kind]) -> Table:
    budgets = list(entries[0].exact) if entries else []
    table = Table(
        "linears",
        "rank",
        "share of output",
        "lost, least squares",
        "lost, mean scores",
        "action error alone",
        *(f"exact at {budget}" for budget in budgets),
        title=method,
    )
    for kind in entries:
        table.add_row(
            f"{kind.stack} {kind.kind}",
            f"{kind.mean_rank:.1f}",
            f"{kind.share:.1e}",
            f"{kind.residual_least_squares:.3f}",
            f"{kind.residual_mean_scores:.3f}",
            "–" if kind.alone is None else f"{kind.alone:.4f}",
            *(f"{kind.exact[budget]} of {kind.linears}" for budget in budgets),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
