"""How often a bundle does what it is told, in closed loop."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import Progress

from results.places import OUT
from vla_evaluation.case import Case
from vla_evaluation.conditions import Condition
from vla_evaluation.intervals import PairedDifference, Proportion, paired_difference, wilson
from vla_evaluation.outcome import Outcome
from vla_evaluation.request import Request, check
from vla_evaluation.results import Results
from vla_evaluation.workers import run_cases
from vla_runtime.bundle.bundle import MANIFEST, sha256

NOMINAL = Condition("nominal")

# An evaluation is of so many seeds, however many of them have run so far: more of them continue it.
_SEEDS = 100_000


@dataclass(frozen=True)
class Score:
    """What became of the episodes 0 … n − 1 of one task under one condition.

    by_seed: whether each succeeded. jerk: rms over the joints, median over the episodes, in [rad/s³].
    chunk_latency_ms: median over the episodes, on a machine that did other things meanwhile.
    """

    task: str
    condition: str
    successes: Proportion
    by_seed: dict[int, bool]
    jerk: float | None
    chunk_latency_ms: float | None

    def in_words(self) -> str:
        """``57 of 60 (86–98 %)``: the interval is Wilson's, 95 %."""
        found = self.successes
        return f"{found.successes} of {found.n} ({100 * found.lower:.0f}–{100 * found.upper:.0f} %)"


def success(bundle: Path, task: str, episodes: int, *, condition: Condition | None = None, workers: int = 2) -> Score:
    """The score of ``bundle`` on the seeds 0 … ``episodes`` − 1; episodes that have run before are not run again.

    condition: undisturbed by default. Raises `BadInput` for a bundle that cannot be evaluated and an unknown task,
    `WorkFailed` where a process died.
    """
    condition = condition or NOMINAL
    request = check(Request(bundle, None, task, _SEEDS, 0, "runtime", None, False))
    results = Results.open(_directory(bundle, task, condition), request)
    planned = [Case("bundle", condition, task, seed, False) for seed in range(episodes)]
    left = [case for case in planned if case.key not in results.outcomes]
    if left:
        with Progress(console=Console(stderr=True)) as progress:
            bar = progress.add_task(f"{bundle.name}, {task}, {condition.name}", total=len(left))

            def done(outcome: Outcome) -> None:
                results.add(outcome)
                progress.advance(bar)

            run_cases(request, left, min(workers, len(left)), results.directory, done)
    outcomes = [results.outcomes[case.key] for case in planned]
    return Score(
        task=task,
        condition=condition.name,
        successes=wilson(sum(outcome.success for outcome in outcomes), len(outcomes)),
        by_seed={outcome.seed: outcome.success for outcome in outcomes},
        jerk=_median(outcome.jerk for outcome in outcomes),
        chunk_latency_ms=_median(outcome.chunk_latency for outcome in outcomes),
    )


def paired(a: Score, b: Score) -> PairedDifference:
    """Success of ``a`` less that of ``b`` on the same seeds; raises `ValueError` where they are not the same."""
    if a.by_seed.keys() != b.by_seed.keys():
        raise ValueError("scores of different seeds cannot be paired")
    pairs = [(succeeded, b.by_seed[seed]) for seed, succeeded in a.by_seed.items()]
    ways = ((True, True), (True, False), (False, True), (False, False))
    return paired_difference(*(pairs.count(way) for way in ways))


def _directory(bundle: Path, task: str, condition: Condition) -> Path:
    """Where the outcomes lie: of these graphs, this task and this condition alone."""
    under = hashlib.sha256(json.dumps(dataclasses.asdict(condition), sort_keys=True).encode()).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", f"{task} {condition.name}")
    return OUT / "evaluations" / f"{bundle.name}-{sha256(bundle / MANIFEST)[:8]}" / f"{slug}-{under[:8]}"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
