"""A policy with two cameras and the arm's joints, for recordings to fit or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_calibration.recording import PolicyInputs
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space

GOLDENS = Path(__file__).parents[1] / "oracles" / "goldens"


@pytest.fixture
def goldens() -> Path:
    return GOLDENS


@pytest.fixture
def inputs() -> PolicyInputs:
    """Cameras that have the same names in training and on the robot; the state in rad and m."""
    n = len(JOINT_NAMES)
    dimensions = tuple(Dimension(name=name, unit="m" if name == "gripper" else "rad") for name in JOINT_NAMES)
    normalisation = Normalisation(mode="identity", offset=(0.0,) * n, scale=(1.0,) * n)
    space = Space(dimensions=dimensions, normalisation=normalisation, padded_to=n)
    return PolicyInputs({"side": "side", "wrist": "wrist"}, space)
