"""What a sent sequence must show, by the definition of its derivatives."""

from __future__ import annotations

import numpy as np

from vla_runtime.safety.differences import differences, rounding

FLOATING = 1e-15  # what a position of a few radians is rounded by


def excess(times, positions, limits):
    """By how much velocity, acceleration and jerk go beyond the limits at most, as a share of each. Shape (3,)."""
    found = []
    for order, bound in enumerate((limits.velocity, limits.acceleration, limits.jerk), start=1):
        if len(times) <= order:
            found.append(-1.0)
            continue
        beyond = np.abs(differences(times, positions, order)) - rounding(times, FLOATING, order)[:, None]
        found.append(float((beyond / bound).max()) - 1.0)
    return np.array(found)


def outside(positions, limits):
    """By how much positions are outside the limits. Same shape."""
    return np.maximum(np.maximum(limits.lower - positions, positions - limits.upper), 0.0)
