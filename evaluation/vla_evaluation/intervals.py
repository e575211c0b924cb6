"""How sure a success rate is, and a difference of two."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)
"""Two-sided 95 %."""


@dataclass(frozen=True)
class Proportion:
    """``successes`` of ``n``, with the interval that holds the true rate in 95 of 100 such experiments."""

    successes: int
    n: int
    rate: float
    lower: float
    upper: float


@dataclass(frozen=True)
class PairedDifference:
    """Success rate of the first minus that of the second on the same seeds, with its 95 % interval.

    both, first_only, second_only, neither: how many seeds ended that way.
    p_value: exact two-sided McNemar test of "both succeed equally often".
    """

    both: int
    first_only: int
    second_only: int
    neither: int
    difference: float
    lower: float
    upper: float
    p_value: float


def wilson(successes: int, n: int) -> Proportion:
    """The score interval: all rates p with |successes/n − p| ≤ z √(p (1 − p) / n), z = 1.96.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927) 209–212; for
    its conduct near 0 and 1 see R. G. Newcombe, Statistics in Medicine 17 (1998) 857–872, method 3.
    Raises `ValueError` for counts that are none.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}")
    rate, z2 = successes / n, _Z * _Z
    centre = rate + z2 / (2 * n)
    half = _Z * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    lower, upper = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    # Rounding must not leave the limit of a clean sweep a hair on the wrong side of it.
    return Proportion(successes, n, rate, 0.0 if successes == 0 else lower, 1.0 if successes == n else upper)


def paired_difference(both: int, first_only: int, second_only: int, neither: int) -> PairedDifference:
    """The difference of two success rates measured on the same seeds.

    The interval joins the Wilson limits (l, u) of the two rates p₁, p₂ by their correlation φ:

        lower = p₁ − p₂ − √((p₁ − l₁)² − 2 φ (p₁ − l₁)(u₂ − p₂) + (u₂ − p₂)²)
        upper = p₁ − p₂ + √((u₁ − p₁)² − 2 φ (u₁ − p₁)(p₂ − l₂) + (p₂ − l₂)²)

    with φ continuity-corrected where it is positive: R. G. Newcombe, "Improved confidence intervals for the difference
    between binomial proportions based on paired data", Statistics in Medicine 17 (1998) 2635–2650, method 10.
    Raises `ValueError` for counts that are none.
    """
    a, b, c, d = both, first_only, second_only, neither
    n = a + b + c + d
    if min(a, b, c, d) < 0 or n == 0:
        raise ValueError(f"counts {a}, {b}, {c}, {d}")
    first, second = wilson(a + b, n), wilson(a + c, n)
    phi = _correlation(a, b, c, d)
    difference = first.rate - second.rate
    below = _joined(first.rate - first.lower, second.upper - second.rate, phi)
    above = _joined(first.upper - first.rate, second.rate - second.lower, phi)
    return PairedDifference(a, b, c, d, difference, difference - below, difference + above, mcnemar(b, c))


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value: of the seeds on which only one succeeded, each is as likely to be either's.

    Q. McNemar, Psychometrika 12 (1947) 153–157, with the binomial distribution in the place of its limit.
    """
    discordant = first_only + second_only
    tail = sum(comb(discordant, k) for k in range(min(first_only, second_only) + 1))
    return min(1.0, 2 * tail / (1 << discordant))


def _correlation(a: int, b: int, c: int, d: int) -> float:
    spread = (a + b) * (c + d) * (a + c) * (b + d)
    if spread == 0:
        return 0.0
    product: float = a * d - b * c
    if product > 0:
        product = max(product - (a + b + c + d) / 2, 0.0)
    correlation: float = product / sqrt(spread)
    return correlation


def _joined(one: float, other: float, phi: float) -> float:
    return sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))
