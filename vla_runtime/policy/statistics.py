"""Between the robot's units and the policy's: the arithmetic of LeRobot's normaliser, in float32 as in training."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput

EPSILON = np.float32(1e-8)


def normalise(values: NDArray[Any], space: Space) -> NDArray[np.float32]:
    """``(x - mean) / (std + 1e-8)``, then zeros up to the width of the graph's tensor.

    values: in the space's units. Shape (..., n). Returns shape (..., space.padded_to).
    Raises `BadInput` for another length. Source: lerobot/processor/normalize_processor.py (MEAN_STD).
    """
    n = len(space.dimensions)
    if values.shape[-1:] != (n,):
        raise BadInput(f"expected {n} values ({', '.join(d.name for d in space.dimensions)}), got shape {values.shape}")
    padded = np.zeros((*values.shape[:-1], space.padded_to), np.float32)
    padded[..., :n] = values
    if space.normalisation.mode == "mean_std":
        padded[..., :n] = (padded[..., :n] - _mean(space)) / (_std(space) + EPSILON)
    return padded


def unnormalise(values: NDArray[np.float32], space: Space) -> NDArray[np.float64]:
    """``x * std + mean`` of the real dimensions; the padding is dropped.

    values: normalised. Shape (..., space.padded_to). Returns the space's units. Shape (..., n).
    """
    real = values[..., : len(space.dimensions)].astype(np.float32)
    if space.normalisation.mode == "mean_std":
        real = real * _std(space) + _mean(space)
    return real.astype(np.float64)


def _mean(space: Space) -> NDArray[np.float32]:
    return np.asarray(space.normalisation.mean, np.float32)


def _std(space: Space) -> NDArray[np.float32]:
    return np.asarray(space.normalisation.std, np.float32)
