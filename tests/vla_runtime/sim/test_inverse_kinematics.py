"""Closed-form inverse kinematics against MuJoCo's forward kinematics."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.sim.inverse_kinematics import joints_at
from vla_runtime.sim.scene import Scene

SCENE = Scene()

radii = st.floats(0.16, 0.38)
bearings = st.floats(-0.8, 0.8)
heights = st.floats(0.015, 0.16)
yaws = st.floats(-3.0, 3.0)


def place(radius, bearing, height):
    return np.array([radius * np.cos(bearing), radius * np.sin(bearing), height])


def grasp_frame(joints):
    data = mujoco.MjData(SCENE.model)
    for index, angle in enumerate(joints):
        data.qpos[SCENE.model.joint(f"joint{index + 1}").qposadr[0]] = angle
    mujoco.mj_kinematics(SCENE.model, data)
    site = data.site("grasp")
    return site.xpos, site.xmat.reshape(3, 3)


@settings(deadline=None)
@given(radii, bearings, heights, yaws)
def test_the_fingers_are_where_they_are_wanted(radius, bearing, height, yaw):
    wanted = place(radius, bearing, height)
    point, _ = grasp_frame(joints_at(wanted, yaw))
    np.testing.assert_allclose(point, wanted, atol=1e-5)


@settings(deadline=None)
@given(radii, bearings, heights, yaws)
def test_the_joints_are_within_the_limits(radius, bearing, height, yaw):
    joints = joints_at(place(radius, bearing, height), yaw)
    assert np.all(joints >= PIPER_LIMITS.lower[:6])
    assert np.all(joints <= PIPER_LIMITS.upper[:6])


@settings(deadline=None)
@given(st.floats(0.18, 0.37), bearings, st.floats(0.015, 0.07), yaws)
def test_low_over_the_table_the_fingers_point_down_and_close_along_the_yaw(radius, bearing, height, yaw):
    _, axes = grasp_frame(joints_at(place(radius, bearing, height), yaw))
    np.testing.assert_allclose(axes[:, 2], [0, 0, -1], atol=1e-5)
    closing = np.arctan2(-axes[0, 1], axes[1, 1])
    quarters = (closing - yaw) / (np.pi / 2)
    assert quarters == pytest.approx(round(quarters), abs=1e-4)


def test_where_the_wrist_cannot_bend_the_fingers_tilt_outwards():
    _, axes = grasp_frame(joints_at(place(0.28, 0.0, 0.15), 0.0))
    assert axes[0, 2] > 0.1


@pytest.mark.parametrize("where", [(0.8, 0.0, 0.05), (0.3, 0.0, 1.2)])
def test_a_place_out_of_reach_is_an_error(where):
    with pytest.raises(ValueError, match="out of reach"):
        joints_at(where, 0.0)
