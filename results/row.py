"""One bundle on one task under one condition: the row that every study writes, and that studies are pooled by."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from results.action_error import ActionError
from results.success import Score
from vla_evaluation.intervals import PairedDifference, paired_difference, wilson


class Success(BaseModel):
    """``n`` of ``of`` episodes, with Wilson's 95 % interval; seeds are 0 … of − 1.

    failed: the seeds that failed, so that rows can be paired.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int
    of: int
    low: float
    high: float
    failed: tuple[int, ...]

    @classmethod
    def counted(cls, by_seed: Mapping[int, bool]) -> Success:
        """Raises `ValueError` where the seeds are not 0 … n − 1."""
        if sorted(by_seed) != list(range(len(by_seed))):
            raise ValueError(f"seeds {sorted(by_seed)} are not 0 to {len(by_seed) - 1}")
        found = wilson(sum(by_seed.values()), len(by_seed))
        failed = tuple(sorted(seed for seed, succeeded in by_seed.items() if not succeeded))
        return cls(n=found.successes, of=found.n, low=found.lower, high=found.upper, failed=failed)

    @property
    def rate(self) -> float:
        return self.n / self.of

    def text(self) -> str:
        """``57 of 60 (86–98 %)``: with Wilson's 95 % interval."""
        return f"{self.n} of {self.of} ({100 * self.low:.0f}–{100 * self.high:.0f} %)"

    def minus(self, other: Success) -> PairedDifference:
        """The paired difference on the same seeds; raises `ValueError` where they are not the same."""
        if self.of != other.of:
            raise ValueError(f"{self.of} and {other.of} episodes cannot be paired")
        mine, its = set(self.failed), set(other.failed)
        neither = len(mine & its)
        return paired_difference(self.of - len(mine | its), len(its - mine), len(mine - its), neither)


class Row(BaseModel):
    """What a study found of one bundle on one task under one condition. A study may add fields in a class of its own.

    baseline: the bundle it is measured against, in a row of the same study, task and condition: the uncompressed one;
        itself for that one.
    action_error: of the bundle against ``baseline`` on held-out observations of the task; None for ``baseline`` and
        where it was not measured.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    study: str
    bundle: str
    baseline: str
    task: str
    condition: str
    success: Success
    action_error: ActionError | None = None


def row(study: str, bundle: str, baseline: str, score: Score, action_error: ActionError | None = None) -> Row:
    """The row of a score."""
    return Row(
        study=study,
        bundle=bundle,
        baseline=baseline,
        task=score.task,
        condition=score.condition,
        success=Success.counted(score.by_seed),
        action_error=action_error,
    )
