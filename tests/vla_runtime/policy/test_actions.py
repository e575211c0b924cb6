"""From normalised chunks to absolute targets in SI, and back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load_file

from vla_runtime.bundle.manifest import Dimension, Normalisation, Space
from vla_runtime.policy.actions import absolute_actions, policy_actions

GOLDENS = Path(__file__).parents[2] / "oracles" / "goldens"
DIMENSIONS = (Dimension(name="joint1", unit="0.001deg"), Dimension(name="gripper", unit="0.001mm"))
STATE = Space(
    dimensions=DIMENSIONS,
    normalisation=Normalisation(mode="identity", offset=(0, 0), scale=(1, 1)),
    padded_to=2,
)


def action(relative: tuple[bool, ...]) -> Space:
    return Space(
        dimensions=DIMENSIONS,
        normalisation=Normalisation(mode="mean_std", offset=(10_000, 20_000), scale=(1000, 5000)),
        padded_to=3,
        relative=relative,
    )


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ((), [[11e3, 10e3], [10e3, 20e3]]),
        ((False, False), [[11e3, 10e3], [10e3, 20e3]]),
        ((True, False), [[101e3, 10e3], [100e3, 20e3]]),
        ((True, True), [[101e3, 50e3], [100e3, 60e3]]),
    ],
)
def test_relative_dimensions_count_from_the_observed_state(
    relative: tuple[bool, ...], expected: list[list[float]]
) -> None:
    chunk = np.array([[1, -2, 9], [0, 0, 9]], np.float32)
    observed = np.array([math.radians(90), 0.04])
    found = absolute_actions(chunk, observed, STATE, action(relative))
    np.testing.assert_allclose(found, np.array(expected) * [math.radians(1e-3), 1e-6], rtol=1e-12)


def test_relative_actions_equal_lerobots() -> None:
    """Of a π0 whose actions are relative but for the gripper; statistics and outputs are LeRobot's own."""
    golden = load_file(GOLDENS / "relative_outputs.safetensors")
    statistics = load_file(GOLDENS / "relative" / "policy_postprocessor_step_0_unnormalizer_processor.safetensors")
    dimensions = tuple(Dimension(name=f"joint{n}", unit="rad") for n in range(7))
    state = Space(
        dimensions=dimensions,
        normalisation=Normalisation(mode="identity", offset=(0,) * 7, scale=(1,) * 7),
        padded_to=7,
    )
    offset, scale = (statistics[f"action.{what}"].tolist() for what in ("mean", "std"))
    action = Space(
        dimensions=dimensions,
        normalisation=Normalisation(mode="mean_std", offset=offset, scale=scale),
        padded_to=7,
        relative=(True,) * 6 + (False,),
    )
    found = absolute_actions(golden["chunk"][0], golden["raw_state"], state, action)
    np.testing.assert_allclose(found, golden["actions"][0], rtol=1e-6, atol=1e-6)


@given(
    arrays.arrays(np.float32, (4, 2), elements=st.floats(-5, 5, width=32)),
    arrays.arrays(np.float64, (2,), elements=st.floats(-3, 3)),
    st.tuples(st.booleans(), st.booleans()),
)
def test_back_to_the_policys_numbers_and_forth(
    chunk: np.ndarray, observed: np.ndarray, relative: tuple[bool, bool]
) -> None:
    space = action(relative)
    absolute = absolute_actions(np.pad(chunk, ((0, 0), (0, 1))), observed, STATE, space)
    back = policy_actions(absolute, observed, STATE, space)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back[:, :2], chunk, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(back[:, 2], 0)
    np.testing.assert_allclose(absolute_actions(back, observed, STATE, space), absolute, rtol=1e-6, atol=1e-8)


def test_relative_ones_are_counted_from_the_new_state() -> None:
    """The same absolute action is less of a way where the arm is already further on."""
    space = action((True, False))
    here, further = np.array([0.0, 0.0]), np.array([math.radians(2), 0.0])
    goal = np.array([[math.radians(12), 0.02]])
    np.testing.assert_allclose(policy_actions(goal, here, STATE, space)[0], [2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(policy_actions(goal, further, STATE, space)[0], [0, 0, 0], atol=1e-6)


def test_a_dimension_that_never_moved_survives_the_way_back() -> None:
    """Its range is 1e-8: float32 would leave nothing of what the flow said of it."""
    space = action(()).model_copy(
        update={"normalisation": Normalisation(mode="min_max", offset=(123_456.0, 0.5), scale=(1e-8, 1e-8))}
    )
    chunk = np.array([[0.5, -1.0, 0.0]], np.float32)
    observed = np.zeros(2)
    back = policy_actions(absolute_actions(chunk, observed, STATE, space), observed, STATE, space)
    np.testing.assert_allclose(back[0, 1], chunk[0, 1], atol=1e-6)
