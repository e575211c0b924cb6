"""Tables and numbers as Markdown has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from results.action_error import ActionError
from vla_evaluation.intervals import PairedDifference


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; raises `ValueError` for a row of another length than its head."""
    lines = [head, ["---"] * len(head), *rows]
    if any(len(line) != len(head) for line in lines):
        raise ValueError(f"a row has not as many cells as {', '.join(head)}")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def difference(paired: PairedDifference) -> str:
    """``−12 (−19 to −5), p = 0.0012``: in points, with its interval and McNemar's p."""
    p = "p < 0.0001" if paired.p_value < 1e-4 else f"p = {paired.p_value:.2g}"
    return f"{points(paired.difference)} ({points(paired.lower)} to {points(paired.upper)}), {p}"


def decided(paired: PairedDifference) -> bool:
    """Whether the interval says which of the two is better."""
    return paired.lower > 0 or paired.upper < 0


def points(share: float) -> str:
    """A difference of rates in points, signed."""
    return f"{100 * share:+.0f}".replace("-", "−")


def ranged(value: float | None, interval: Sequence[float] | None, digits: int = 2) -> str:
    """``0.71 (0.58 to 0.81)``; a dash where there is none."""
    if value is None:
        return "–"
    low_high = "" if interval is None else f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})"
    return f"{value:.{digits}f}{low_high}".replace("-", "−")


def share(error: ActionError | None) -> str:
    """The worst number's error, as a share of its scale; a dash for the baseline."""
    return "–" if error is None else f"{error.worst_share_of_scale:.2g}"


def joints(error: ActionError | None) -> str:
    """The mean error of the joints; a dash for the baseline."""
    return "–" if error is None else f"{error.mean_joint_rad:.2g}"
