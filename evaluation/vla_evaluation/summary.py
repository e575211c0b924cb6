"""Outcomes → figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from vla_evaluation.intervals import PairedDifference, Proportion, paired_difference, wilson
from vla_evaluation.outcome import Outcome


@dataclass(frozen=True)
class Row:
    """One bundle under one condition.

    success, holding: achieved at some moment; still achieved when the time was up.
    succeeded_at: median over the successes, in [s]. path_length, jerk, chunk_latency: medians, in [m], [rad/s³], [ms].
    interventions: of the safety layer, in all episodes together, by kind; None without one.
    cut_short: how many episodes could not go on to their end, by the reason.
    """

    bundle: str
    condition: str
    success: Proportion
    holding: Proportion
    succeeded_at: float | None
    path_length: float | None
    jerk: float | None
    chunk_latency: float | None
    interventions: dict[str, int] | None
    cut_short: dict[str, int]


@dataclass(frozen=True)
class Comparison:
    """The first bundle against the second under one condition, on the same seeds."""

    condition: str
    success: PairedDifference


@dataclass(frozen=True)
class Summary:
    """An evaluation in figures."""

    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]


def summarise(outcomes: Iterable[Outcome], conditions: Sequence[str], bundles: Sequence[str]) -> Summary:
    """Rows in the order of ``conditions`` and ``bundles``; raises `ValueError` where one has no outcome."""
    found = list(outcomes)

    def of(bundle: str, condition: str) -> list[Outcome]:
        return [outcome for outcome in found if (outcome.bundle, outcome.condition) == (bundle, condition)]

    rows = tuple(_row(bundle, condition, of(bundle, condition)) for condition in conditions for bundle in bundles)
    if len(bundles) != 2:
        return Summary(rows, ())
    first, second = bundles
    return Summary(rows, tuple(Comparison(name, compare(of(first, name), of(second, name))) for name in conditions))


def compare(first: Sequence[Outcome], second: Sequence[Outcome]) -> PairedDifference:
    """The paired difference of success; raises `ValueError` where the seeds are not the same."""
    succeeded = [{outcome.seed: outcome.success for outcome in outcomes} for outcomes in (first, second)]
    if succeeded[0].keys() != succeeded[1].keys():
        raise ValueError("outcomes of different seeds cannot be paired")
    pairs = [(success, succeeded[1][seed]) for seed, success in succeeded[0].items()]
    ways = ((True, True), (True, False), (False, True), (False, False))
    return paired_difference(*(pairs.count(way) for way in ways))


def _row(bundle: str, condition: str, outcomes: Sequence[Outcome]) -> Row:
    return Row(
        bundle=bundle,
        condition=condition,
        success=wilson(sum(outcome.success for outcome in outcomes), len(outcomes)),
        holding=wilson(sum(outcome.holding for outcome in outcomes), len(outcomes)),
        succeeded_at=_median(outcome.succeeded_at for outcome in outcomes),
        path_length=_median(outcome.path_length for outcome in outcomes),
        jerk=_median(outcome.jerk for outcome in outcomes),
        chunk_latency=_median(outcome.chunk_latency for outcome in outcomes),
        interventions=_total([outcome.interventions for outcome in outcomes]),
        cut_short=dict(Counter(outcome.ended_because for outcome in outcomes if outcome.ended_because is not None)),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _total(counts: Sequence[dict[str, int] | None]) -> dict[str, int] | None:
    known = [count for count in counts if count is not None]
    if not known:
        return None
    kinds = sorted({kind for count in known for kind in count})
    return {kind: sum(count.get(kind, 0) for count in known) for kind in kinds}
