"""A row of the studies that make the policy smaller, and what such rows say of one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from results.row import Row
from vla_evaluation.intervals import PairedDifference


class LatencyRatio(NamedTuple):
    """Of a chunk's time to the whole policy's, as `results.latency.ratio` has it."""

    median: float
    low: float
    high: float


class PrunedRow(Row):
    """One smaller policy on one task.

    module, method, draw, asked, fraction, removed: of `results.chosen_structure.Cut`. finetuned: for how many steps.
    latency: of its bundle; None for ``baseline``.
    """

    module: str
    method: str
    draw: int | None
    asked: float
    fraction: float
    removed: str
    finetuned: int
    latency: LatencyRatio | None

    @property
    def chooser(self) -> str:
        """The method; of random choices also which."""
        return self.method if self.draw is None else f"{self.method} {self.draw}"


class Comparison(BaseModel):
    """Success of the first less that of the second, on the same seeds.

    first, second: a chooser, and "finetuned" or "as cut". asked: how much of ``module`` both were to take out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    module: str
    asked: float
    first: str
    second: str
    success: PairedDifference


def comparisons(rows: Sequence[PrunedRow], rivals: Sequence[tuple[str, str]]) -> Iterator[Comparison]:
    """Every rival against the other where both took out as much and were finetuned as long, each draw on its own; and
    every finetuned policy against itself before.

    rivals: pairs of methods.
    """
    for a, b in product(rows, rows):
        if (a.task, a.condition, a.module, a.asked) != (b.task, b.condition, b.module, b.asked):
            continue
        same_training = (a.finetuned > 0) == (b.finetuned > 0)
        before = a.chooser == b.chooser and a.finetuned > 0 and b.finetuned == 0
        if before or (same_training and (a.method, b.method) in rivals):
            yield Comparison(
                task=a.task,
                module=a.module,
                asked=a.asked,
                first=_named(a),
                second=_named(b),
                success=a.success.minus(b.success),
            )


def _named(row: PrunedRow) -> str:
    return f"{row.chooser}, {'finetuned' if row.finetuned else 'as cut'}"
