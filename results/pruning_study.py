"""Smaller policies one after another: cut, finetune, export, and what became of them in closed loop."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from results import demonstrations, figures
from results.action_error import action_error
from results.arguments import Arguments
from results.chosen_structure import Cut, pruned_checkpoint
from results.finetune import finetune
from results.latency import ratio
from results.observations import held_out
from results.places import OUT, PICTURES
from results.pruned_row import LatencyRatio, PrunedRow, comparisons
from results.pruning_picture import Panel, draw
from results.recipes import ORIGINAL, Recipe, export, export_all
from results.row import Row, row
from results.success import success
from vla_runtime.bundle.bundle import MANIFEST, sha256

TASKS = ("lift", "reach")
STEPS, QUICK_STEPS = 200, 2
"""Of finetuning, the same for every policy."""
_ROUNDS = 40  # of latency


@dataclass(frozen=True)
class Trial:
    """One policy to judge. steps: of finetuning, 0 for none."""

    cut: Cut
    steps: int = 0

    @property
    def name(self) -> str:
        """The same for the same policy."""
        if self.steps:
            return f"{self.cut.name}-finetuned-{self.steps}"
        return self.cut.name if self.cut.removed != "nothing" else ORIGINAL.name


@dataclass(frozen=True)
class Study:
    """name: of its figures and picture. tiers: of trials, the most important first, the whole policy in the first.
    rivals: pairs of methods that conclusions compare. panels: of the picture."""

    name: str
    title: str
    tiers: Sequence[Sequence[Trial]]
    rivals: Sequence[tuple[str, str]]
    panels: Sequence[Panel]


def carry_out(study: Study, arguments: Arguments) -> list[PrunedRow]:
    """Judge every trial, tier by tier; what is complete is kept, and published unless this is a quick run."""
    rows: list[PrunedRow] = []
    for tier in study.tiers:
        bundles = _bundles(tier, arguments.workers)
        for trial in tier:
            rows += _rows(study.name, trial, bundles[trial.name], arguments)
            if not arguments.quick:
                _publish(study, rows, arguments.episodes)
    return rows


def show(study: Study, rows: Sequence[PrunedRow]) -> None:
    """Print the table: a line for each policy, and a line for each comparison that is decided."""
    console = Console()
    table = Table("removed", "chosen by", "finetuned", *TASKS, "mean joint error", "worst share of scale", "latency")
    for lift in (found for found in rows if found.task == TASKS[0]):
        reach = next(found for found in rows if found.task != lift.task and _same(found, lift))
        error, latency = lift.action_error, lift.latency
        table.add_row(
            lift.removed if lift.module in ("none", "layers") else f"{lift.module}: {lift.removed}",
            lift.chooser,
            f"{lift.finetuned} steps" if lift.finetuned else "no",
            lift.success.text(),
            reach.success.text(),
            "–" if error is None else f"{error.mean_joint_rad:.3f} rad",
            "–" if error is None else f"{error.worst_share_of_scale:.2f}",
            "–" if latency is None else f"{latency.median:.2f} ({latency.low:.2f}–{latency.high:.2f})",
        )
    console.print(table)
    for found in comparisons(rows, study.rivals):
        difference = found.success
        if difference.lower > 0 or difference.upper < 0:
            console.print(
                f"{found.task}, {found.asked:g} of {found.module}: {found.first} − {found.second}: "
                f"{100 * difference.difference:+.0f} points ({100 * difference.lower:+.0f} to "
                f"{100 * difference.upper:+.0f}), p = {difference.p_value:.2g}",
                highlight=False,
            )


def _same(a: PrunedRow, b: PrunedRow) -> bool:
    return (a.bundle, a.module, a.chooser, a.asked) == (b.bundle, b.module, b.chooser, b.asked)


def _bundles(tier: Sequence[Trial], workers: int) -> dict[str, Path]:
    """By the trial's name; trials of the same policy share one."""
    trials = {trial.name: trial for trial in tier if trial.name != ORIGINAL.name}
    checkpoints = {name: pruned_checkpoint(trial.cut) for name, trial in trials.items()}
    longer = [name for name, trial in trials.items() if trial.steps]
    if longer:
        demonstrations.nominal()  # here once, not by every process at the same time
    # Learning in one process outlives no fork, and two processes of one thread learn more than one of two.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        finetuned = pool.map(
            finetune,
            [checkpoints[name] for name in longer],
            [trials[name].cut.name for name in longer],
            [trials[name].steps for name in longer],
        )
        checkpoints |= dict(zip(longer, finetuned, strict=True))
    recipes = [Recipe(name, checkpoint) for name, checkpoint in checkpoints.items()]
    return {ORIGINAL.name: export(ORIGINAL), **export_all(recipes, workers)}


def _rows(study: str, trial: Trial, bundle: Path, arguments: Arguments) -> list[PrunedRow]:
    """A row for each task."""
    latency, measured = _measured(study, trial.name, bundle, arguments)
    return [
        PrunedRow(
            **dict(found),
            module=trial.cut.module,
            method=trial.cut.method,
            draw=trial.cut.draw,
            asked=trial.cut.asked,
            fraction=trial.cut.fraction,
            removed=trial.cut.removed,
            finetuned=trial.steps,
            latency=latency,
        )
        for found in measured
    ]


def _measured(study: str, name: str, bundle: Path, arguments: Arguments) -> tuple[LatencyRatio | None, list[Row]]:
    """Of a bundle, on each task; kept where the same bundles were measured over as many episodes before."""
    original = ORIGINAL.bundle
    identity = [sha256(path / MANIFEST) for path in (bundle, original)]
    kept = OUT / study / f"{name}-{arguments.episodes}.json"
    if kept.is_file():
        found = _Measured.model_validate_json(kept.read_text(encoding="utf-8"))
        if found.identity == identity:
            return found.latency, found.rows
    itself = bundle == original
    latency = None if itself else LatencyRatio(*ratio(bundle, original, _ROUNDS))
    rows = []
    for task in TASKS:
        error = None if itself else action_error(bundle, original, held_out((task,), shifted=False))
        score = success(bundle, task, arguments.episodes, workers=arguments.workers)
        rows.append(row(study, name, ORIGINAL.name, score, error))
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_name(f".{kept.name}.partial")
    partial.write_text(_Measured(identity=identity, latency=latency, rows=rows).model_dump_json(), encoding="utf-8")
    partial.replace(kept)
    return latency, rows


class _Measured(BaseModel):
    """What is kept of a bundle. identity: the digests of its manifest and of the baseline's."""

    identity: list[str]
    latency: LatencyRatio | None
    rows: list[Row]


def _publish(study: Study, rows: Sequence[PrunedRow], episodes: int) -> None:
    figures.write(
        study.name,
        {
            "episodes": episodes,
            "finetuning_steps": max(found.finetuned for found in rows),
            "rows": list(rows),
            "comparisons": list(comparisons(rows, study.rivals)),
        },
    )
    PICTURES.mkdir(parents=True, exist_ok=True)
    draw(rows, study.title, study.panels, PICTURES / f"results_{study.name}.png")
