"""How well one number orders things by another: rank correlation, and telling two classes apart, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""Of paired values, shape (n,) each; NaN where it is not defined."""


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 1 on, ties sharing their mean rank. Shape (n,) → (n,)."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    result: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place]
    return result


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's correlation of the ranks (C. Spearman 1904); NaN where all of one are equal."""
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / spread if spread > 0 else float("nan")


def separation(x: NDArray[np.float64], positive: NDArray[np.float64]) -> float:
    """Probability that x is higher in one of the positive (1) than in one of the others (0), ties counting half.

    The area under the ROC curve, U / (n₁ n₀) of Mann and Whitney 1947. NaN where one class is empty.
    """
    chosen = positive > 0
    n, others = int(chosen.sum()), int((~chosen).sum())
    if n == 0 or others == 0:
        return float("nan")
    return float(ranks(x)[chosen].sum() - n * (n + 1) / 2) / (n * others)


def bootstrapped(
    statistic: Statistic,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    clusters: Sequence[str],
    resamples: int = 2000,
) -> tuple[float, float] | None:
    """95 % percentile interval where whole clusters are drawn with replacement (Efron and Tibshirani 1993).

    clusters: of each value: those of one cluster are not independent. None where most draws leave it undefined.
    """
    names = sorted(set(clusters))
    members = [np.flatnonzero(np.array(clusters) == name) for name in names]
    generator = np.random.default_rng(0)
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([members[n] for n in generator.integers(len(names), size=len(names))])
        found.append(statistic(x[drawn], y[drawn]))
    defined = np.array(found)[np.isfinite(found)]
    if len(defined) < resamples / 2:
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)
