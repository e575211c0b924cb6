"""Cubic Hermite segments: from a point and its velocity to another point and its."""

from __future__ import annotations


def hermite(fraction: float, duration: float) -> tuple[float, float, float, float]:
    """What a position is made of, at a fraction of the segment from 0 to 1.

    Weights of the start, the velocity there, the end and the velocity there; ``duration`` of the segment in [s]. At
    both ends they are exactly 0 and 1, so that the segment meets its points to the last bit.
    """
    u, left = fraction, 1.0 - fraction
    shift = u * u * (3.0 - 2.0 * u)
    swing = u * left * duration
    return 1.0 - shift, left * swing, shift, -u * swing


def hermite_rate(fraction: float, duration: float) -> tuple[float, float, float, float]:
    """What a velocity is made of: weights of the same four, the derivatives of `hermite`."""
    u, left = fraction, 1.0 - fraction
    swing = 6.0 * u * left / duration
    return -swing, left * (1.0 - 3.0 * u), swing, u * (3.0 * u - 2.0)
