"""Units of the policy against SI, both ways."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.arms.piper_frames import METRES_PER_STEP, RADIANS_PER_STEP
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space, Unit
from vla_runtime.policy.units import from_si, si_unit, to_si


def space(*units: Unit) -> Space:
    n = len(units)
    return Space(
        dimensions=tuple(Dimension(name=f"d{i}", unit=unit) for i, unit in enumerate(units)),
        normalisation=Normalisation(mode="identity", offset=(0.0,) * n, scale=(1.0,) * n),
        padded_to=n,
    )


@pytest.mark.parametrize(
    ("unit", "value", "si", "in_si"),
    [
        ("rad", 1.25, "rad", 1.25),
        ("deg", 90, "rad", math.pi / 2),
        ("0.001deg", 90_000, "rad", math.pi / 2),
        ("0.001deg", -1, "rad", -RADIANS_PER_STEP),
        ("m", 0.07, "m", 0.07),
        ("mm", 70, "m", 0.07),
        ("0.001mm", 70_000, "m", 0.07),
        ("0.001mm", 1, "m", METRES_PER_STEP),
        ("1", 0.5, "1", 0.5),
    ],
)
def test_known_values(unit: Unit, value: float, si: str, in_si: float) -> None:
    assert si_unit(unit) == si
    assert to_si(np.array([value]), space(unit))[0] == pytest.approx(in_si, rel=1e-15)
    assert from_si(np.array([in_si]), space(unit))[0] == pytest.approx(value, rel=1e-15)


UNITS = st.lists(st.sampled_from(get_args(Unit)), min_size=1, max_size=7)


@given(UNITS, st.data())
def test_there_and_back(units: list[Unit], data: st.DataObject) -> None:
    shape = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=len(units), max_size=len(units))
    values = np.array([data.draw(shape) for _ in range(2)])
    np.testing.assert_allclose(from_si(to_si(values, space(*units)), space(*units)), values, rtol=1e-15, atol=1e-300)
    np.testing.assert_allclose(to_si(from_si(values, space(*units)), space(*units)), values, rtol=1e-15, atol=1e-300)


def test_each_number_has_its_own_unit() -> None:
    piper = space(*["0.001deg"] * 6, "0.001mm")
    np.testing.assert_allclose(to_si(np.array([[180_000] * 6 + [35_000]]), piper), [[math.pi] * 6 + [0.035]])
