"""How one thing gives way to another."""

from __future__ import annotations


def fade(since: float, window: float) -> tuple[float, float]:
    """A weight that rises from 0 to 1 within ``window`` [s], ``since`` [s] after it began; and its rate in [1/s].

    The minimum-jerk profile 10u³ − 15u⁴ + 6u⁵ (Flash and Hogan, Journal of Neuroscience 5, 1985): velocity and
    acceleration are 0 at both ends.
    """
    u = since / window
    if u <= 0.0:
        return 0.0, 0.0
    if u >= 1.0:
        return 1.0, 0.0
    return u * u * u * (10.0 + u * (6.0 * u - 15.0)), 30.0 * (u * (1.0 - u)) ** 2 / window
