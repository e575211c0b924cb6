"""Forward kinematics, with the manufacturer's as the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from piper_sdk import C_PiperForwardKinematics

from vla_runtime.arms.piper_kinematics import flange_transform, roll_pitch_yaw, zero_angles
from vla_runtime.errors import BadInput

JOINTS = st.tuples(
    *[st.floats(low, high) for low, high in [(-2.6, 2.6), (0, 3.1), (-2.9, 0), (-1.7, 1.7), (-1.2, 1.2), (-2, 2)]]
)


@pytest.mark.parametrize(("firmware", "offset"), [("S-V1.8-2", 1), ("S-V1.6-3", 1), ("S-V1.6-2", 0), ("S-V1.5-2", 0)])
@given(joints=JOINTS)
def test_the_flange_is_where_the_manufacturer_says(firmware, offset, joints):
    expected = C_PiperForwardKinematics(offset).CalFK(joints)[5]
    transform = flange_transform(joints, firmware)
    np.testing.assert_allclose(transform[:3, 3] * 1000, expected[:3], atol=1e-3)  # [mm]
    if abs(abs(expected[4]) - 90) > 1:  # at ±90° of pitch, roll and yaw are not unique
        np.testing.assert_allclose(np.degrees(roll_pitch_yaw(transform)), expected[3:], atol=1e-3)


@pytest.mark.parametrize("firmware", ["", "1.8-2", "S-V1.8", "S-Vx.8-2"])
def test_an_unreadable_firmware_is_refused(firmware):
    with pytest.raises(BadInput, match="S-V1.8-2"):
        zero_angles(firmware)
