"""Figures as people read them."""

from __future__ import annotations

from vla_evaluation.intervals import PairedDifference, Proportion


def rate(proportion: Proportion) -> str:
    """``96.0 % (92.3–98.0)``: a rate with its interval."""
    return f"{proportion.rate:.1%} ({100 * proportion.lower:.1f}–{100 * proportion.upper:.1f})"


def difference(paired: PairedDifference) -> str:
    """``−3.5 points (−7.1 to +0.2)``: a difference with its interval."""
    return f"{_points(paired.difference)} points ({_points(paired.lower)} to {_points(paired.upper)})"


def value(number: float | None, unit: str) -> str:
    """A number with its unit; a dash where there is none."""
    return "–" if number is None else f"{number:.3g} {unit}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")
