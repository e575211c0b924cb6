"""Percentiles of durations, by the one definition every report of the project uses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Latency:
    """Nearest-rank percentiles of ``n`` durations, in [s].

    The p-th is the smallest recorded duration that at least p % of them do not exceed: the value at rank ⌈p/100 · n⌉.
    It is always one that was measured, never an average of two; below 100 durations p99 is therefore the maximum.
    """

    n: int
    p50: float
    p90: float
    p99: float
    max: float

    def milliseconds(self) -> dict[str, float]:
        """The same in [ms], under the names reports use."""
        return {
            "n": self.n,
            "p50_ms": self.p50 * 1e3,
            "p90_ms": self.p90 * 1e3,
            "p99_ms": self.p99 * 1e3,
            "max_ms": self.max * 1e3,
        }


def latency(seconds: Sequence[float] | NDArray[Any]) -> Latency:
    """Summarise durations in [s]; raises `ValueError` when there are none."""
    ordered = np.sort(np.asarray(seconds, np.float64))
    n = len(ordered)
    if n == 0:
        raise ValueError("no durations to summarise")

    def nearest_rank(percent: int) -> float:
        return float(ordered[math.ceil(percent * n / 100) - 1])

    return Latency(n=n, p50=nearest_rank(50), p90=nearest_rank(90), p99=nearest_rank(99), max=float(ordered[-1]))
