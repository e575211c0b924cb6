"""Between the units a policy speaks and the robot's, which are SI: angles in rad, lengths in m, or plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla_runtime.bundle.manifest import Space, Unit

SIUnit = Literal["rad", "m", "1"]

_IN_SI: Mapping[Unit, tuple[SIUnit, float]] = MappingProxyType(
    {
        "rad": ("rad", 1.0),
        "deg": ("rad", math.pi / 180),
        "0.001deg": ("rad", math.pi / 180_000),
        "m": ("m", 1.0),
        "mm": ("m", 1e-3),
        "0.001mm": ("m", 1e-6),
        "1": ("1", 1.0),
    }
)


def si_unit(unit: Unit) -> SIUnit:
    """The SI unit of the same kind of quantity: rad for an angle, m for a length, 1 for a plain number."""
    return _IN_SI[unit][0]


def si_factors(space: Space) -> NDArray[np.float64]:
    """How many SI units one unit of each dimension is. Shape (n,)."""
    return np.array([_IN_SI[dimension.unit][1] for dimension in space.dimensions])


def to_si(values: NDArray[Any], space: Space) -> NDArray[np.float64]:
    """From the policy's units to SI. Shape (..., n)."""
    return np.asarray(values, np.float64) * si_factors(space)


def from_si(values: NDArray[Any], space: Space) -> NDArray[np.float64]:
    """From SI to the policy's units. Shape (..., n)."""
    return np.asarray(values, np.float64) / si_factors(space)
