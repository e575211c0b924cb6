"""What velocity, acceleration and jerk of a sampled sequence are."""

from __future__ import annotations

from math import factorial

import numpy as np
from numpy.typing import NDArray


def differences(times: NDArray[np.float64], positions: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """The ``order``-th derivative that ``positions`` at ``times`` show: order! times their divided difference.

        d¹[k] = (p[k] - p[k-1]) / (t[k] - t[k-1])
        dⁿ[k] = n (dⁿ⁻¹[k] - dⁿ⁻¹[k-1]) / (t[k] - t[k-n])

    At equal intervals these are the usual backward differences. At any others they keep the property that counts:
    between the first and the last of its samples, every smooth motion through them has this derivative somewhere (mean
    value theorem for divided differences), so a motion within limits shows none beyond them, however it is sampled.

    times: strictly increasing, in [s]. Shape (n,). positions: shape (n, axes). Returns shape (n - order, axes).
    """
    found = np.asarray(positions, dtype=np.float64)
    for n in range(1, order + 1):
        found = np.diff(found, axis=0) / (times[n:] - times[:-n])[:, None]
    return factorial(order) * found


def rounding(times: NDArray[np.float64], step: float, order: int) -> NDArray[np.float64]:
    """By how much `differences` can be wrong where every position is rounded by up to ``step``. Shape (n - order,).

    ``order``! 2ⁿ ``step`` over the product of the shortest spans: what a measurement of a sent sequence must allow for,
    be it for the floating point (``step`` about 1e-15) or for the 0.001° of a PiPER's frames (half of 1.7e-5 rad).
    """
    wrong = np.full(len(times), step)
    for n in range(1, order + 1):
        wrong = (wrong[1:] + wrong[:-1]) / (times[n:] - times[:-n])
    return factorial(order) * wrong
