"""All bundles of all studies that were measured both ways: by their actions, and in closed loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.action_error import ActionError
from results.recipes import ORIGINAL
from results.row import Row
from vla_evaluation.intervals import PairedDifference
from vla_runtime.errors import BadInput

STUDIES = ("merging", "depth", "width", "together")
"""Whose rows are pooled: those in which a bundle was made of another one to act as it does."""


class PooledRow(Row):
    """A row as it is read. finetuned: for how many steps after it was compressed, in studies that do so."""

    finetuned: int = 0


HARM = 0.05
"""Share of episodes that nobody would give away."""
_ROUNDING = 1e-9  # 55 / 60 − 52 / 60 is a little below 3 / 60


@dataclass(frozen=True)
class Judged:
    """A bundle that was made of another one, on one task under one condition.

    error: of its actions. lost: success of the other less its own, on the same seeds.
    """

    study: str
    bundle: str
    task: str
    condition: str
    finetuned: bool
    error: ActionError
    lost: PairedDifference

    @property
    def harmed(self) -> bool:
        """It lost `HARM` or more, and the interval says that it lost something."""
        return not self.kept and self.lost.lower > 0

    @property
    def kept(self) -> bool:
        """It lost less than `HARM`."""
        return self.lost.difference < HARM - _ROUNDING


def pool(studies: Mapping[str, Mapping[str, Any]]) -> list[Judged]:
    """Every bundle once, from figures by study.

    Rows without an action error are left out, and so is the unadapted policy where an adapted one is the baseline: it
    was not made of it. Raises `BadInput` for a row whose baseline has none.
    """
    found: dict[tuple[str, str, str, str], Judged] = {}
    for study, figures in studies.items():
        rows = [PooledRow.model_validate(row) for row in figures["rows"]]
        for key, judged in _judged(study, rows):
            found.setdefault(key, judged)
    return list(found.values())


def _judged(study: str, rows: Sequence[PooledRow]) -> Iterator[tuple[tuple[str, str, str, str], Judged]]:
    successes = {(row.bundle, row.task, row.condition): row.success for row in rows}
    for row in rows:
        if row.action_error is None or row.bundle == ORIGINAL.name:
            continue
        baseline = successes.get((row.baseline, row.task, row.condition))
        if baseline is None:
            raise BadInput(
                f"the figures of {study} have no row of {row.baseline} on {row.task}, {row.condition}, which "
                f"{row.bundle} is measured against: make them again with python -m results.{study}"
            )
        judged = Judged(
            study=study,
            bundle=row.bundle,
            task=row.task,
            condition=row.condition,
            finetuned=row.finetuned > 0,
            error=row.action_error,
            lost=baseline.minus(row.success),
        )
        yield (row.bundle, row.baseline, row.task, row.condition), judged
