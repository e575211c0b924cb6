"""How fast an adapted policy becomes when everything is put together, and what that costs in success.

    python -m results.together [--episodes 100] [--workers 2] [--quick]

The LoRA-SP adapter that was trained in the shifted setting is merged, layers and channels are removed, graphs are
exported in several precisions, some policies are finetuned: the front of success against latency, in the shifted
setting, and where on it lies what ``--prune auto`` picks. Everything is measured against the adapted policy as it is:
exact branches, whole, float32.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from results import figures, front_picture
from results.action_error import action_error
from results.adapt import adapter
from results.arguments import Arguments, arguments
from results.combinations import BOTH, EXACT, SEARCHED, Combination, bundles, combinations
from results.front import front
from results.latency import ratio
from results.observations import held_out
from results.places import PICTURES
from results.pruned_row import LatencyRatio
from results.pruning_study import STEPS
from results.row import Row, row
from results.setting import CONDITION, TASKS
from results.success import success
from vla_evaluation.figures import difference
from vla_evaluation.intervals import PairedDifference
from vla_export.report.report import ExportReport
from vla_runtime.command import DONE, run

STUDY = "together"
METHOD = "lora_sp"
_ROUNDS, _QUICK_ROUNDS = 200, 10


class TogetherRow(Row):
    """One combination on one task in the shifted setting.

    combination: in words. searched: ``--prune auto`` chose what goes. removed: what went, in words.
    latency: of a chunk, as a share of the baseline's. size: of the bundle's graphs and weights, in bytes.
    front: of this task no other row succeeds at least as often in no more time.
    """

    combination: str
    merge: str
    prune: str
    finetuned: int
    precision: str
    searched: bool
    removed: str
    latency: LatencyRatio
    size: int
    front: bool = False


class Loss(BaseModel):
    """Success of a combination less that of the baseline on the same seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    combination: str
    success: PairedDifference


def main(argv: Sequence[str] | None = None) -> int:
    """The study; returns its exit code."""
    return run(lambda: _study(arguments(STUDY, "Adapter, depth, width and precision together.", argv)))


def _study(asked: Arguments) -> int:
    torch.set_num_threads(1)
    planned = (EXACT, Combination("auto", BOTH, precision="int8")) if asked.quick else combinations(STEPS)
    made = bundles(planned, METHOD, adapter(METHOD), asked.workers)
    rows: list[TogetherRow] = []
    for combination, bundle in made.items():
        rows += _rows(combination, bundle, made[EXACT], asked)
        if not asked.quick:
            _publish(with_front(rows), asked.episodes)
    _show(with_front(rows))
    return DONE


def _rows(combination: Combination, bundle: Path, baseline: Path, asked: Arguments) -> list[TogetherRow]:
    """A row for each task."""
    latency = LatencyRatio(*ratio(bundle, baseline, _QUICK_ROUNDS if asked.quick else _ROUNDS))
    rows = []
    for task in TASKS:
        score = success(bundle, task, asked.episodes, condition=CONDITION, workers=asked.workers)
        error = None if bundle == baseline else action_error(bundle, baseline, held_out((task,), True))
        rows.append(
            TogetherRow(
                **dict(row(STUDY, bundle.name, baseline.name, score, error)),
                combination=combination.name,
                merge=combination.merge,
                prune=combination.prune,
                finetuned=combination.finetuned,
                precision=combination.precision,
                searched=combination in SEARCHED,
                removed=removed(bundle),
                latency=latency,
                size=sum(file.stat().st_size for file in bundle.glob("**/*.onnx*")),
            )
        )
    return rows


def removed(bundle: Path) -> str:
    """What vla-export says that pruning took out; empty where nothing was, or where that was before it began."""
    path = bundle / "report" / "report.json"
    pruned = ExportReport.model_validate_json(path.read_text(encoding="utf-8")).prune
    return "" if pruned is None else "; ".join(pruned.in_words())


def with_front(rows: Sequence[TogetherRow]) -> list[TogetherRow]:
    """The same, knowing which of them are on the front of their task."""
    best = set()
    for task in dict.fromkeys(found.task for found in rows):
        here = [(n, found) for n, found in enumerate(rows) if found.task == task]
        points = [(found.latency.median, found.success.rate) for _, found in here]
        best |= {here[place][0] for place in front(points)}
    return [found.model_copy(update={"front": n in best}) for n, found in enumerate(rows)]


def losses(rows: Sequence[TogetherRow]) -> list[Loss]:
    """Every row that is not the baseline's against it."""
    baselines = {found.task: found.success for found in rows if found.bundle == found.baseline}
    return [
        Loss(task=found.task, combination=found.combination, success=found.success.minus(baselines[found.task]))
        for found in rows
        if found.bundle != found.baseline
    ]


def _publish(rows: Sequence[TogetherRow], episodes: int) -> None:
    content = {
        "episodes": episodes,
        "condition": CONDITION.name,
        "rounds": _ROUNDS,
        "finetuning_steps": STEPS,
        "rows": list(rows),
        "losses": losses(rows),
    }
    figures.write(STUDY, content)
    PICTURES.mkdir(parents=True, exist_ok=True)
    front_picture.draw(rows, PICTURES / f"results_{STUDY}.png")


def _show(rows: Sequence[TogetherRow]) -> None:
    console = Console()
    table = Table("combination", "task", "success", "against exact", "off exact [rad]", "time / exact", "size", "front")
    lost = {(loss.task, loss.combination): loss.success for loss in losses(rows)}
    for found in sorted(rows, key=lambda one: (one.task, one.latency.median)):
        error, latency, loss = found.action_error, found.latency, lost.get((found.task, found.combination))
        table.add_row(
            found.combination,
            found.task,
            found.success.text(),
            "–" if loss is None else difference(loss),
            "–" if error is None else f"{error.mean_joint_rad:.4f}",
            f"{latency.median:.2f} ({latency.low:.2f}–{latency.high:.2f})",
            f"{found.size / 1e6:.1f} MB",
            "yes" if found.front else "",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
