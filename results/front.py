"""The best that several things can be at once."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, gain) that no other dominates, from the cheapest on.

    A point dominates another that costs no less and gains no more, where one of both differs. Of equal points all stay.
    """
    return sorted(
        (
            place
            for place, (cost, gain) in enumerate(points)
            if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points)
        ),
        key=lambda place: points[place],
    )
