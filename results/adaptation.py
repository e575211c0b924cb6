"""Does an adapter bring the policy back in a setting that it fails in, and what does that cost where it did not?

    python -m results.adaptation [--episodes 100] [--workers 2] [--quick]

The base policy against LoRA-SP, VLA-GSE and plain LoRA, each kept exact, in the shifted setting and in the one that the
base was trained in. Adapters that have not been trained are trained first, as `results.adapt` does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from reference.training import LOG
from results import adaptation_picture, figures
from results.adapt import METHODS, AdapterLearner, adapter, release_directory
from results.arguments import Arguments, arguments
from results.flow_policy import flow_learner
from results.places import PICTURES, POLICY
from results.recipes import ORIGINAL, Recipe, export_all
from results.row import Row, row
from results.setting import CONDITION, SHIFT, TASKS
from results.success import NOMINAL, success
from vla_evaluation.figures import difference
from vla_evaluation.intervals import PairedDifference
from vla_export.checkpoints.reading import read
from vla_runtime.command import DONE, run

STUDY, BASE = "adaptation", "base"
CONDITIONS = (CONDITION, NOMINAL)


class AdaptationRow(Row):
    """method: of `results.adapt.METHODS`, or ``base``."""

    method: str


class Comparison(BaseModel):
    """Success of one method less that of another, on the same seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    condition: str
    first: str
    second: str
    success: PairedDifference


class Training(BaseModel):
    """How one adapter was trained.

    parameters: that were trained. head: of them, the policy's own. directions: of each linear. active: of these, by
    stack and step, how many a token used, mean over tokens and linears. flow: the flow loss of a batch, by step.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    title: str
    parameters: int
    head: int
    steps: int
    highest_rate: float
    directions: int
    active: dict[str, dict[int, float]]
    flow: dict[int, float]


def main(argv: Sequence[str] | None = None) -> int:
    """The study; returns its exit code."""
    return run(lambda: _study(arguments(STUDY, "What adapters learn, and forget, in closed loop.", argv)))


def _study(asked: Arguments) -> int:
    recipes = {BASE: ORIGINAL} | {name: recipe(name, adapter(name)) for name in METHODS}
    bundles = export_all(list(recipes.values()), asked.workers)
    rows = measure({method: bundles[made.name] for method, made in recipes.items()}, asked)
    compared, trained = list(comparisons(rows)), [training(name) for name in METHODS]
    _show(rows, compared, trained)
    if not asked.quick:
        content = {"shift": SHIFT, "rows": rows, "comparisons": compared, "training": trained}
        figures.write(STUDY, content)
        adaptation_picture.draw(rows, trained, PICTURES / f"results_{STUDY}.png")
    return DONE


def recipe(method: str, path: Path) -> Recipe:
    """How a trained adapter becomes a bundle that computes what it computed."""
    return Recipe(f"{method}-exact", POLICY, ("--adapter", str(path), "--merge", "exact"))


def measure(bundles: dict[str, Path], asked: Arguments) -> list[AdaptationRow]:
    """Every method on every task under both conditions."""
    return [
        AdaptationRow(
            **dict(
                row(
                    STUDY,
                    bundle.name,
                    bundles[BASE].name,
                    success(bundle, task, asked.episodes, condition=condition, workers=asked.workers),
                )
            ),
            method=method,
        )
        for method, bundle in bundles.items()
        for condition in CONDITIONS
        for task in TASKS
    ]


def comparisons(rows: Sequence[AdaptationRow]) -> Iterator[Comparison]:
    """Every adapter against the base, and the two input-conditional ones against plain LoRA."""
    found = {(row.method, row.task, row.condition): row for row in rows}
    for (method, task, condition), first in found.items():
        for second in (BASE, "lora"):
            if method not in (BASE, second):
                yield Comparison(
                    task=task,
                    condition=condition,
                    first=method,
                    second=second,
                    success=first.success.minus(found[second, task, condition].success),
                )


def training(name: str) -> Training:
    """What the log beside a trained adapter tells, and how many parameters it has."""
    lines = (release_directory(name) / LOG).read_text(encoding="utf-8").splitlines()
    entries = [entry for entry in map(json.loads, lines) if "flow" in entry]
    method = METHODS[name]
    learner = AdapterLearner(flow_learner(read(POLICY)), method, torch.Generator().manual_seed(0))
    return Training(
        method=name,
        title=method.title,
        parameters=learner.trained,
        head=learner.trained_in_head,
        steps=max(entry["step"] for entry in entries),
        highest_rate=max(entry["rate"] for entry in entries),
        directions=method.directions,
        active={
            stack: {entry["step"]: entry[f"active_{stack}"] for entry in entries} for stack in ("language", "expert")
        },
        flow={entry["step"]: entry["flow"] for entry in entries},
    )


def _show(rows: Sequence[AdaptationRow], compared: Sequence[Comparison], trained: Sequence[Training]) -> None:
    console = Console()
    places = [(condition.name, task) for condition in CONDITIONS for task in TASKS]
    table = Table("method", "trained", *(f"{task}, {condition}" for condition, task in places))
    count = {training.method: f"{training.parameters:,}" for training in trained}
    for method in dict.fromkeys(found.method for found in rows):
        own = {(found.condition, found.task): found.success.text() for found in rows if found.method == method}
        table.add_row(method, count.get(method, "–"), *(own[place] for place in places))
    console.print(table)
    for found in compared:
        console.print(
            f"{found.task}, {found.condition}: {found.first} − {found.second}: {difference(found.success)}",
            highlight=False,
        )
    for training in trained:
        ends = {stack: list(by_step.values()) for stack, by_step in training.active.items()}
        said = ", ".join(f"{stack} {values[0]:.1f} → {values[-1]:.1f}" for stack, values in ends.items())
        console.print(f"{training.title}: of {training.directions} directions a token uses: {said}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
