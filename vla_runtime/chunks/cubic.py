"""A smooth curve through the actions of a chunk that goes no farther than they do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cubic_slopes(times: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Velocities at the start and the end of every segment between two actions, by Steffen's method.

    M. Steffen, "A simple method for monotonic interpolation in one dimension", Astronomy & Astrophysics 239 (1990):
    at each action the slope of the parabola through it and its neighbours, as far as that keeps both segments
    monotone. Between two actions the curve then stays between them (no overshoot at all, however uneven the times) and
    is at most twice as fast as the straight line; velocity is continuous. A curve with continuous acceleration would
    swing past the actions by what no local bound limits: past the end of a joint, or through a closing gripper.

    Two actions are joined by a straight line.

    times: strictly increasing, in [s]. Shape (H,), H ≥ 2. positions: shape (H, 7). Returns shape (H - 1, 2, 7).
    """
    gaps = np.diff(times)[:, None]
    means = np.diff(positions, axis=0) / gaps
    slopes = np.empty_like(positions)
    if len(means) == 1:
        slopes[:] = means
    else:
        before, after = means[:-1], means[1:]
        parabola = (before * gaps[1:] + after * gaps[:-1]) / (gaps[:-1] + gaps[1:])
        least = np.minimum(np.minimum(np.abs(before), np.abs(after)), 0.5 * np.abs(parabola))
        slopes[1:-1] = (np.sign(before) + np.sign(after)) * least
        slopes[0] = _end_slope(means[0], means[1], gaps[0], gaps[1])
        slopes[-1] = _end_slope(means[-1], means[-2], gaps[-1], gaps[-2])
    return np.stack((slopes[:-1], slopes[1:]), axis=1)


def _end_slope(
    mean: NDArray[np.float64], next_mean: NDArray[np.float64], gap: NDArray[np.float64], next_gap: NDArray[np.float64]
) -> NDArray[np.float64]:
    """At an end of the chunk: the parabola's through the last three actions, between rest and twice the mean."""
    share = gap / (gap + next_gap)
    slope: NDArray[np.float64] = mean * (1.0 + share) - next_mean * share
    same_way = np.where(slope * mean > 0.0, slope, 0.0)
    return np.where(np.abs(same_way) > 2.0 * np.abs(mean), 2.0 * mean, same_way)
