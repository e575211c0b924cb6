from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from tests.vla_runtime.safety.mujoco_arm import GEOMETRY, MujocoArm
from vla_runtime.arms.piper_kinematics import flange_transform, zero_angles
from vla_runtime.safety.arm_geometry import HAND, read_geometry
from vla_runtime.safety.limits import PIPER_LIMITS

ARM = MujocoArm()
postures = arrays(np.float64, 7, elements=st.floats(0, 1)).map(
    lambda part: PIPER_LIMITS.lower + part * (PIPER_LIMITS.upper - PIPER_LIMITS.lower)
)


@given(postures)
def test_bodies_and_shapes_are_where_mujoco_has_them(posture):
    ARM.pose(posture)
    frames = GEOMETRY.frames(posture[None])[0]
    for body, frame in zip(ARM.bodies, frames, strict=True):
        assert_allclose(frame[:3, 3], ARM.data.xpos[body], atol=1e-9)
        assert_allclose(frame[:3, :3], ARM.data.xmat[body].reshape(3, 3), atol=1e-9)
    for geom, shape in zip(ARM.geoms, GEOMETRY.shapes, strict=True):
        frame = frames[shape.body]
        assert_allclose(frame[:3, :3] @ shape.place + frame[:3, 3], ARM.data.geom_xpos[geom], atol=1e-9)
        axes = frame[:3, :3] @ shape.turn
        if shape.kind == "box":
            assert_allclose(axes, ARM.data.geom_xmat[geom].reshape(3, 3), atol=1e-9)
        else:  # round: only its axis tells, and either end of it
            assert_allclose(abs(axes[:, 2] @ ARM.data.geom_xmat[geom].reshape(3, 3)[:, 2]), 1.0, atol=1e-9)
        assert_allclose(shape.size[: 3 if shape.kind == "box" else 2], _size(geom, shape), atol=1e-9)


def _size(geom, shape):
    return ARM.model.geom_size[geom][: 3 if shape.kind == "box" else 2]


@given(postures)
def test_the_hand_is_the_flange_of_the_published_kinematics(posture):
    hand = GEOMETRY.frames(posture[None])[0, GEOMETRY.names.index(HAND)]
    assert_allclose(hand, flange_transform(posture[:6]), atol=1e-6)


@given(postures)
def test_older_firmware_has_other_zeros(posture):
    old = "S-V1.5-2"
    offsets = np.append(np.subtract(zero_angles(old), zero_angles("S-V1.8-2")), 0.0)
    hand = GEOMETRY.zeroed_at(offsets).frames(posture[None])[0, GEOMETRY.names.index(HAND)]
    assert_allclose(hand, flange_transform(posture[:6], old), atol=1e-6)


@given(postures, postures, st.integers(0, 8), st.integers(0, 8), arrays(np.float64, 3, elements=st.floats(-0.1, 0.1)))
def test_no_point_goes_farther_than_its_reach(start, end, first, second, point):
    fixed, body = sorted((first, second))
    if body == 8 and fixed == 7:
        return  # the fingers are not on one chain
    seen = []
    for posture in (start, end):
        frames = GEOMETRY.frames(posture[None])[0]
        place = frames[body] @ np.append(point, 1.0)
        seen.append((np.linalg.inv(frames[fixed]) @ place)[:3])
    reach = GEOMETRY.reach(body, float(np.linalg.norm(point)), fixed=fixed)
    assert np.linalg.norm(seen[1] - seen[0]) <= reach @ np.abs(end - start) + 1e-9


@pytest.mark.parametrize(
    ("inside", "complaint"),
    [
        ('<geom type="mesh" mesh="m"/>', "type mesh is not understood"),
        ('<geom type="box" size="1 1 1" quat="1 0 0 0"/>', "quat is not understood"),
        ('<joint name="joint1" axis="0 1 0"/>', "a hinge about its z axis"),
        ('<joint name="joint1" pos="0 0 1"/>', "neither pos nor ref"),
        ('<joint name="joint1"/><joint name="joint2"/>', "has 2 joints"),
    ],
)
def test_what_would_change_the_geometry_unread_is_refused(tmp_path, inside, complaint):
    path = tmp_path / "arm.xml"
    path.write_text(f'<mujoco><worldbody><body name="base">{inside}</body></worldbody></mujoco>')
    with pytest.raises(ValueError, match=complaint):
        read_geometry(path)


def test_a_file_of_two_arms_is_refused(tmp_path):
    path = tmp_path / "arm.xml"
    path.write_text('<mujoco><worldbody><body name="a"/><body name="b"/></worldbody></mujoco>')
    with pytest.raises(ValueError, match="found 2 bodies"):
        read_geometry(path)
