"""Which way from one action chunk to the next still picks up a cube that moves, when chunks come late.

    python -m results.chunks [--episodes 100] [--workers 2] [--quick]

Where cubes lie still, an old observation is as good as a new one, and latency costs no strategy any success. Here they
come past on a belt. The policy was never shown a cube that moves; it observes every 0.4 s, its chunk comes the injected
latency later, and targets are asked at 100 Hz. Under the longest latency the belt stands still once, to compare with.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from benchmarks.chunk_rollout import INTERVAL
from benchmarks.chunk_strategies import STRATEGIES, SWITCH, WINDOW
from results import figures
from results.arguments import Arguments, arguments
from results.chunk_picture import draw
from results.chunk_trials import TASK, Plan, Trial, TrialOutcome, run_trials
from results.places import OUT, PICTURES, POLICY
from results.recipes import Recipe, export
from results.row import Success
from vla_evaluation.figures import difference
from vla_evaluation.intervals import PairedDifference
from vla_runtime.bundle.bundle import MANIFEST, sha256
from vla_runtime.command import DONE, run
from vla_runtime.sim.episode import LIMITS

STUDY = "chunks"
SPEED = 0.04  # [m/s], of the belt: 1.6 cm between two observations
LATENCIES = (0.0, 0.1, 0.2, 0.3)  # [s]
NAMES = tuple(strategy.name for strategy in STRATEGIES if strategy.name != SWITCH)  # which no robot should follow
DEFAULT = "blend"  # the arm node's
_QUICK_SECONDS = 1.5  # of simulated time
_RESAMPLES = 2000


class ChunkRow(BaseModel):
    """One strategy under one latency, on a belt of one speed [m/s].

    latency: [s]. succeeded_at: median over the successes, in [s]; None without any.
    jerk, jerk_low, jerk_high: of the targets within 0.2 s of a takeover, rms over episodes, joints and time until the
        cube was lifted, in [rad/s³], and its 95 % interval by resampling episodes.
    off: how far a new chunk is from what was asked until it came, 95th percentile, in [rad].
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: float
    latency: float
    strategy: str
    success: Success
    succeeded_at: float | None
    jerk: float
    jerk_low: float
    jerk_high: float
    off: float


class ChunkComparison(BaseModel):
    """Success of the first strategy less that of the second, on the same seeds of the same belt and latency."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: float
    latency: float
    first: str
    second: str
    success: PairedDifference


def trials(cells: Sequence[tuple[float, float]], episodes: int) -> Iterator[Trial]:
    """Every strategy in every cell of (speed, latency), a seed at a time, so that what is done is comparable."""
    for seed, (speed, latency), name in product(range(episodes), cells, NAMES):
        yield Trial(speed=speed, latency=latency, strategy=name, seed=seed)


def rows(outcomes: Sequence[TrialOutcome]) -> list[ChunkRow]:
    """A row for each speed, latency and strategy, in the order in which they first come."""
    cells: dict[tuple[float, float, str], list[TrialOutcome]] = {}
    for outcome in outcomes:
        trial = outcome.trial
        cells.setdefault((trial.speed, trial.latency, trial.strategy), []).append(outcome)
    return [_row(*cell, found) for cell, found in cells.items()]


def _row(speed: float, latency: float, strategy: str, outcomes: Sequence[TrialOutcome]) -> ChunkRow:
    squares = np.array([(outcome.squares, outcome.jerks) for outcome in outcomes])
    low, high = _resampled_rms(squares)
    at = [outcome.succeeded_at for outcome in outcomes if outcome.succeeded_at is not None]
    return ChunkRow(
        speed=speed,
        latency=latency,
        strategy=strategy,
        success=Success.counted({one.trial.seed: one.succeeded_at is not None for one in outcomes}),
        succeeded_at=float(np.median(at)) if at else None,
        jerk=float(_rms(squares.sum(0))),
        jerk_low=low,
        jerk_high=high,
        off=float(np.quantile(np.concatenate([outcome.off for outcome in outcomes]), 0.95)),
    )


def _rms(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of sums of squares and their counts. Shape (…, 2) → (…)."""
    result: NDArray[np.float64] = np.sqrt(sums[..., 0] / sums[..., 1])
    return result


def _resampled_rms(squares: NDArray[np.float64]) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of the pooled rms; episodes are drawn, not moments."""
    drawn = np.random.default_rng(0).integers(len(squares), size=(_RESAMPLES, len(squares)))
    low, high = np.quantile(_rms(squares[drawn].sum(1)), (0.025, 0.975))
    return float(low), float(high)


def comparisons(found: Sequence[ChunkRow]) -> list[ChunkComparison]:
    """Every other strategy against the default, where speed and latency are the same."""
    return [
        ChunkComparison(
            speed=first.speed,
            latency=first.latency,
            first=first.strategy,
            second=second.strategy,
            success=first.success.minus(second.success),
        )
        for first, second in product(found, found)
        if (first.speed, first.latency) == (second.speed, second.latency)
        and first.strategy != second.strategy == DEFAULT
    ]


def measure(cells: Sequence[tuple[float, float]], seconds: float, asked: Arguments) -> list[ChunkRow]:
    """The rows of every cell of (speed, latency); finished episodes are kept."""
    bundle = export(Recipe("reference-guided", POLICY, ("--rtc", "guided")))
    plan = Plan(bundle, seconds, tuple(trials(cells, asked.episodes)))
    return rows(run_trials(plan, _kept(bundle, seconds), asked.workers))


def _kept(bundle: Path, seconds: float) -> Path:
    return OUT / STUDY / f"{sha256(bundle / MANIFEST)[:16]}-{seconds:g}s.jsonl"


def table(found: Sequence[ChunkRow]) -> Table:
    """As a person reads it."""
    shown = Table("belt", "latency", "strategy", "success", "median time", "jerk", "off", title=f"task '{TASK}'")
    for one in found:
        shown.add_row(
            f"{1e2 * one.speed:g} cm/s",
            f"{1e3 * one.latency:.0f} ms",
            one.strategy,
            one.success.text(),
            "–" if one.succeeded_at is None else f"{one.succeeded_at:.1f} s",
            f"{one.jerk:.0f} ({one.jerk_low:.0f}–{one.jerk_high:.0f}) rad/s³",
            f"{one.off:.3f} rad",
        )
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run(lambda: _study(arguments(STUDY, "Which way from chunk to chunk bears latency?", argv)))


def _study(asked: Arguments) -> int:
    if asked.quick:
        found = measure([(SPEED, LATENCIES[-1])], _QUICK_SECONDS, asked)
    else:
        cells = [(SPEED, latency) for latency in LATENCIES] + [(0.0, LATENCIES[-1])]
        found = measure(cells, LIMITS[TASK], asked)
        _publish(found, asked)
    console = Console()
    console.print(table(found))
    for one in comparisons(found):
        if one.success.lower > 0 or one.success.upper < 0:
            where = f"{1e2 * one.speed:g} cm/s, {1e3 * one.latency:.0f} ms: {one.first} − {one.second}"
            console.print(f"{where}: {difference(one.success)}, p = {one.success.p_value:.2g}", highlight=False)
    return DONE


def _publish(found: Sequence[ChunkRow], asked: Arguments) -> None:
    content = {
        "task": TASK,
        "episodes": asked.episodes,
        "observed_every_s": INTERVAL,
        "takeover_window_s": WINDOW,
        "rows": list(found),
        "comparisons": comparisons(found),
    }
    figures.write(STUDY, content)
    PICTURES.mkdir(parents=True, exist_ok=True)
    draw([row for row in found if row.speed], PICTURES / f"results_{STUDY}.png")


if __name__ == "__main__":
    sys.exit(main())
