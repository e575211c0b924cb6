"""Path and jerk against motions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_evaluation.motion import GRASP, joint_jerk, resampled, tip_path_length
from vla_runtime.sim.scene import HOME, Scene


def swings(angles: NDArray[np.float64], joint: int = 0) -> NDArray[np.float64]:
    states = np.tile(np.array(HOME), (len(angles), 1))
    states[:, joint] = angles
    return states


def test_the_tip_goes_round_in_a_circle() -> None:
    scene = Scene()
    radius = float(np.linalg.norm(scene.data.site("grasp").xpos[:2]))
    length = tip_path_length(swings(np.linspace(-1, 1, 2001)))
    assert length == pytest.approx(2 * radius, rel=1e-4)


def test_the_tip_is_the_scenes() -> None:
    scene = Scene()
    hand = scene.data.body("link6")
    np.testing.assert_allclose(hand.xpos + GRASP * hand.xmat.reshape(3, 3)[:, 2], scene.data.site("grasp").xpos)


def test_a_still_arm_and_an_opening_gripper_go_nowhere() -> None:
    assert tip_path_length(swings(np.linspace(0, 0.07, 20), joint=6)) == 0


def test_jerk_of_a_cubic_is_its_third_derivative() -> None:
    times = np.arange(0, 2, 0.1)
    jerk = joint_jerk(swings(0.1 * times**3), 0.1)
    assert jerk == pytest.approx(0.6 / np.sqrt(6), rel=1e-6)  # one joint of six


def test_constant_acceleration_has_no_jerk_and_three_states_tell_nothing() -> None:
    times = np.arange(0, 2, 0.1)
    assert joint_jerk(swings(0.3 * times**2), 0.1) == pytest.approx(0, abs=1e-9)
    assert joint_jerk(swings(times[:3]), 0.1) is None


def test_resampling_is_linear_between_uneven_samples() -> None:
    stamps = np.array([5.0, 5.03, 5.2, 5.31])
    states = np.outer(stamps, np.arange(1, 8))
    found = resampled(stamps, states, 0.1)
    np.testing.assert_allclose(found, np.outer([5.0, 5.1, 5.2, 5.3], np.arange(1, 8)))
