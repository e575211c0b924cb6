"""From normalised chunks to absolute targets in SI."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from vla_runtime.bundle.manifest import Dimension, Normalisation, Space
from vla_runtime.policy.actions import absolute_actions

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
