"""Statistics as training projects store them → the bundle's `Normalisation`.

Each project guards against a width of zero in its own way, and LeRobot guards what goes in (the state) differently from
what comes out (the action). ``guard`` is what the project adds to every width:

    project                     mean_std in   mean_std out   ranges in   ranges out
    LeRobot from 0.4            eps (1e-8)    0              0           0             processor/normalize_processor.py
    LeRobot 0.1 to 0.3, forks   1e-8          0              1e-8        0             policies/normalize.py
    openpi                      1e-6          1e-6           1e-6        1e-6          openpi/transforms.py

A width that is still zero becomes 1e-8: LeRobot's own value for ranges; of an action it changes nothing that float32
can tell from the constant it stands for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from vla_runtime.bundle.manifest import Normalisation
from vla_runtime.errors import BadInput

Range = Literal["min_max", "quantiles", "quantile10"]

_NARROWEST = 1e-8


def from_mean_std(mean: Sequence[float], std: Sequence[float], guard: float) -> Normalisation:
    """``(x - mean) / (std + guard)``; both of shape (n,). Raises `BadInput` for a negative deviation."""
    width = _guarded(np.asarray(std, np.float64), "standard deviation is negative", guard)
    return Normalisation(mode="mean_std", offset=tuple(mean), scale=tuple(width.tolist()))


def from_range(mode: Range, low: Sequence[float], high: Sequence[float], guard: float) -> Normalisation:
    """``2 (x - low) / (high - low + guard) - 1``; both of shape (n,). Raises `BadInput` where high is below low."""
    lowest = np.asarray(low, np.float64)
    half = _guarded(np.asarray(high, np.float64) - lowest, "upper bound is below its lower one", guard) / 2
    return Normalisation(mode=mode, offset=tuple((lowest + half).tolist()), scale=tuple(half.tolist()))


def identity(width: int) -> Normalisation:
    """``x`` of ``width`` numbers as it is."""
    return Normalisation(mode="identity", offset=(0.0,) * width, scale=(1.0,) * width)


def _guarded(width: np.ndarray, fault: str, guard: float) -> np.ndarray:
    if (width < 0).any():
        raise BadInput(f"statistics: of number {int(np.argmax(width < 0))} (from 0) the {fault}")
    guarded = width + guard
    return np.where(guarded == 0, _NARROWEST, guarded)
