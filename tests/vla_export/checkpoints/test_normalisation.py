"""Statistics into the bundle's normalisation, and what the robot then computes, against LeRobot's own processors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from vla_export.checkpoints.normalisation import from_mean_std, from_range, identity
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space
from vla_runtime.errors import BadInput
from vla_runtime.policy.statistics import normalise, unnormalise

GOLDEN = load_file(Path(__file__).parents[2] / "oracles" / "goldens" / "normalisation.safetensors")
RANGES = {"MIN_MAX": ("min_max", "min", "max"), "QUANTILES": ("quantiles", "q01", "q99")} | {
    "QUANTILE10": ("quantile10", "q10", "q90")
}


def space(normalisation: Normalisation) -> Space:
    n = len(normalisation.scale)
    dimensions = tuple(Dimension(name=f"d{i}", unit="1") for i in range(n))
    return Space(dimensions=dimensions, normalisation=normalisation, padded_to=n)


def lerobot(mode: str, guard: float) -> Normalisation:
    def statistic(name: str) -> list[float]:
        return [float(value) for value in GOLDEN[f"statistic.{name}"]]

    if mode == "MEAN_STD":
        return from_mean_std(statistic("mean"), statistic("std"), guard)
    if mode == "IDENTITY":
        return identity(len(statistic("mean")))
    label, low, high = RANGES[mode]
    return from_range(label, statistic(low), statistic(high), guard=0)  # type: ignore[arg-type]  # label is one of them


@pytest.mark.parametrize("mode", ["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY"])
def test_the_robot_computes_what_lerobot_does(mode: str) -> None:
    """Some dimensions have no deviation or no range at all."""
    vectors = GOLDEN["vectors"]
    normalised = normalise(vectors, space(lerobot(mode, guard=1e-8)))
    np.testing.assert_allclose(normalised, GOLDEN[f"normalised.{mode}"], rtol=1e-6, atol=1e-6)
    unnormalised = unnormalise(vectors, space(lerobot(mode, guard=0)))
    np.testing.assert_allclose(unnormalised, GOLDEN[f"unnormalised.{mode}"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("guard", [0, 1e-8, 1e-6])
def test_the_bounds_of_a_range_become_minus_one_and_one(guard: float) -> None:
    low, high = np.array([-3.0, 0.0, 90_000.0]), np.array([2.0, 0.07, 120_000.0])
    found = space(from_range("quantiles", low.tolist(), high.tolist(), guard))
    assert found.normalisation.mode == "quantiles"
    np.testing.assert_allclose(normalise(low, found), -1, atol=1e-6)
    np.testing.assert_allclose(normalise(high, found), 1 - 2 * guard / (high - low + guard), atol=1e-6)


# Narrower than the guard of a width of zero, a range beside 1e3 is lost in float64's own rounding.
WIDTHS = st.just(0.0) | st.floats(1e-8, 1e3)


@given(
    st.lists(st.tuples(st.floats(-1e3, 1e3), WIDTHS), min_size=1, max_size=7),
    st.sampled_from([0, 1e-8, 1e-6]),
    st.floats(-1, 1),
)
def test_what_goes_out_comes_back_in(bounds: list[tuple[float, float]], guard: float, x: float) -> None:
    low, width = zip(*bounds, strict=True)
    found = space(from_range("min_max", low, [a + b for a, b in bounds], guard))
    out = unnormalise(np.full(len(bounds), x, np.float32), found)
    centre, half = np.array(found.normalisation.offset), np.array(found.normalisation.scale)
    np.testing.assert_allclose((out - centre) / half, np.float32(x), atol=1e-3)
    assert (out >= np.array(low) - 1e-3).all()
    assert (out <= np.array(low) + np.array(width) + 1e-3).all()


def test_every_project_guards_its_deviations_by_itself() -> None:
    assert from_mean_std([1.0], [0.5], guard=1e-6).scale == (0.500001,)
    assert from_mean_std([1.0], [0.5], guard=0).scale == (0.5,)
    assert from_mean_std([1.0], [0.0], guard=0).scale == (1e-8,)
    assert from_range("min_max", [1.0], [1.0], guard=1e-6).scale == (5e-7,)
    assert from_range("min_max", [1.0], [1.0], guard=0).scale == (5e-9,)


def test_statistics_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadInput, match="number 1 .* the standard deviation is negative"):
        from_mean_std([0, 0], [1, -1], guard=1e-8)
    with pytest.raises(BadInput, match="number 0 .* the upper bound is below its lower one"):
        from_range("quantiles", [1, 0], [0, 1], guard=0)
