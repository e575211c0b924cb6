"""The arithmetic of the normaliser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.bundle.manifest import Dimension, Normalisation, Space
from vla_runtime.errors import BadInput
from vla_runtime.policy.statistics import normalise, unnormalise


def space(mean: np.ndarray, std: np.ndarray, padded_to: int) -> Space:
    return Space(
        dimensions=tuple(Dimension(name=f"j{i}", unit="rad") for i in range(len(mean))),
        normalisation=Normalisation(mode="mean_std", offset=tuple(mean.tolist()), scale=tuple(std.tolist())),
        padded_to=padded_to,
    )


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_there_and_back(values: list[float]) -> None:
    three = space(np.array([0.1, -2.0, 0.0]), np.array([0.5, 3.0, 1.0]), padded_to=5)
    padded = normalise(np.array(values), three)
    assert padded.shape == (5,)
    assert (padded[3:] == 0).all()
    np.testing.assert_allclose(unnormalise(padded, three), values, atol=1e-5)


def test_identity_only_pads() -> None:
    identity = Space(
        dimensions=(Dimension(name="a", unit="1"), Dimension(name="b", unit="1")),
        normalisation=Normalisation(mode="identity", offset=(0, 0), scale=(1, 1)),
        padded_to=3,
    )
    assert normalise(np.array([4.0, 5.0]), identity).tolist() == [4, 5, 0]
    assert unnormalise(np.array([4, 5, 9], np.float32), identity).tolist() == [4, 5]


def test_refuses_another_length() -> None:
    with pytest.raises(BadInput, match="expected 2 values \\(j0, j1\\)"):
        normalise(np.zeros(3), space(np.zeros(2), np.ones(2), padded_to=8))
