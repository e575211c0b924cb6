"""Between numbers in the policy's units and the normalised ones that its graphs compute with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput


def normalise(values: NDArray[Any], space: Space) -> NDArray[np.float32]:
    """``(x - offset) / scale``, then zeros up to the width of the graph's tensor.

    values: in the space's units. Shape (..., n). Returns shape (..., space.padded_to).
    Raises `BadInput` for another length.

    In training values and statistics are float32. Here the arithmetic between them is float64, because the centre of a
    range of width 1e-8, which stands for a joint that never moved, is not a float32 number.
    Source: lerobot/processor/normalize_processor.py.
    """
    n = len(space.dimensions)
    if values.shape[-1:] != (n,):
        raise BadInput(f"expected {n} values ({', '.join(d.name for d in space.dimensions)}), got shape {values.shape}")
    return renormalise(values.astype(np.float32), space)


def renormalise(values: NDArray[Any], space: Space) -> NDArray[np.float32]:
    """The inverse of `unnormalise`, padded with zeros: as `normalise`, for values that were never float32.

    They are not rounded first: of a dimension whose range is 1e-8, nothing would be left.
    """
    padded = np.zeros((*values.shape[:-1], space.padded_to), np.float32)
    padded[..., : len(space.dimensions)] = (values - _offset(space)) / _scale(space)
    return padded


def unnormalise(values: NDArray[np.float32], space: Space) -> NDArray[np.float64]:
    """``x * scale + offset`` of the real dimensions; the padding is dropped.

    values: normalised. Shape (..., space.padded_to). Returns the space's units. Shape (..., n).
    """
    return values[..., : len(space.dimensions)].astype(np.float64) * _scale(space) + _offset(space)


def _offset(space: Space) -> NDArray[np.float64]:
    return np.asarray(space.normalisation.offset, np.float64)


def _scale(space: Space) -> NDArray[np.float64]:
    return np.asarray(space.normalisation.scale, np.float64)
