"""The wire, with the manufacturer's own parser and encoder as the oracle."""

import can
import pytest
from hypothesis import given
from hypothesis import strategies as st
from piper_sdk.piper_msgs.msg_v2 import PiperMessage
from piper_sdk.protocol.protocol_v2 import C_PiperParserV2

from vla_runtime.arms import piper_frames as frames

INT32 = st.integers(-(2**31), 2**31 - 1)
INT16 = st.integers(-(2**15), 2**15 - 1)
UINT16 = st.integers(0, 2**16 - 1)
UINT8 = st.integers(0, 255)
INT8 = st.integers(-128, 127)

PAIRS = (*frames.JOINT_TARGETS, *frames.END_POSE, *frames.JOINTS)
MESSAGES = st.one_of(
    st.tuples(st.just(frames.EMERGENCY_STOP), st.builds(frames.EmergencyStop, UINT8, UINT8, UINT8)),
    st.tuples(st.just(frames.CONTROL_MODE), st.builds(frames.ControlMode, *[UINT8] * 6)),
    st.tuples(st.sampled_from(PAIRS), st.builds(frames.Pair, INT32, INT32)),
    st.tuples(st.just(frames.GRIPPER_TARGET), st.builds(frames.GripperTarget, INT32, UINT16, UINT8, UINT8)),
    st.tuples(st.just(frames.MOTOR_POWER), st.builds(frames.MotorPower, UINT8, UINT8)),
    st.tuples(st.just(frames.LIMITS_QUERY), st.builds(frames.LimitsQuery, UINT8, UINT8)),
    st.tuples(st.just(frames.ARM_STATUS), st.builds(frames.ArmStatus, *[UINT8] * 8)),
    st.tuples(st.just(frames.GRIPPER), st.builds(frames.GripperFeedback, INT32, INT16, UINT8)),
    st.tuples(st.sampled_from(frames.MOTOR_FAST), st.builds(frames.MotorFast, INT16, INT16, INT32)),
    st.tuples(st.sampled_from(frames.MOTOR_SLOW), st.builds(frames.MotorSlow, UINT16, INT16, INT8, UINT8, UINT16)),
    st.tuples(st.just(frames.ANGLE_LIMITS), st.builds(frames.AngleLimits, UINT8, INT16, INT16, UINT16)),
    st.tuples(st.just(frames.ACCELERATION_LIMIT), st.builds(frames.AccelerationLimit, UINT8, UINT16)),
    st.tuples(st.just(frames.ACKNOWLEDGE), st.builds(frames.Acknowledge, UINT8, UINT8)),
)


def sdk_reads(identifier: int, message: frames.Message) -> PiperMessage:
    parsed = PiperMessage()
    frame = can.Message(arbitration_id=identifier, data=frames.encode(identifier, message), is_extended_id=False)
    assert C_PiperParserV2().DecodeMessage(frame, parsed)
    return parsed


class Sent(list):
    """Stands in the SDK's port and keeps what the SDK would have sent."""

    def __init__(self, sdk):
        from piper_sdk import C_STD_CAN

        self.CAN_STATUS = C_STD_CAN.CAN_STATUS
        sdk._C_PiperInterface_V2__arm_can = self

    def SendCanMessage(self, identifier, data):  # noqa: N802 - the SDK's name
        self.append((identifier, frames.decode(identifier, bytes(data))))
        return self.CAN_STATUS.SEND_MESSAGE_SUCCESS


@pytest.fixture
def sdk():
    from piper_sdk import C_PiperInterface_V2

    interface = C_PiperInterface_V2("frames", judge_flag=False, can_auto_init=False)
    yield interface
    C_PiperInterface_V2._instances.pop("frames")


@given(MESSAGES)
def test_decode_inverts_encode(pair):
    identifier, message = pair
    data = frames.encode(identifier, message)
    assert len(data) == 8
    assert frames.decode(identifier, data) == message


def test_unknown_identifiers_and_short_frames():
    assert frames.decode(0x7FF, bytes(8)) is None
    with pytest.raises(ValueError, match="0x155 has 7 bytes"):
        frames.decode(0x155, bytes(7))


def test_we_read_the_commands_the_sdk_sends(sdk):
    sent = Sent(sdk)
    sdk.MotionCtrl_2(1, 1, 73, 0)
    sdk.JointCtrl(-150_000, 180_000, -1, 99_999, -70_000, 2**31 - 1)
    sdk.GripperCtrl(70_000, 5000, 1, 0xAE)
    sdk.EnableArm(3)
    sdk.DisableArm(7)
    sdk.EmergencyStop(1)
    assert sent == [
        (0x151, frames.ControlMode(1, 1, 73)),
        (0x155, frames.Pair(-150_000, 180_000)),
        (0x156, frames.Pair(-1, 99_999)),
        (0x157, frames.Pair(-70_000, 2**31 - 1)),
        (0x159, frames.GripperTarget(70_000, 5000, frames.GRIPPER_ON, 0xAE)),
        (0x471, frames.MotorPower(3, frames.POWER_ON)),
        (0x471, frames.MotorPower(7, frames.POWER_OFF)),
        (0x150, frames.EmergencyStop(frames.STOP)),
    ]


@given(INT32, INT32)
def test_the_sdk_reads_our_pairs(first, second):
    joints = sdk_reads(frames.JOINTS[1], frames.Pair(first, second)).arm_joint_feedback
    assert (joints.joint_3, joints.joint_4) == (first, second)
    pose = sdk_reads(frames.END_POSE[2], frames.Pair(first, second)).arm_end_pose
    assert (pose.RY_axis, pose.RZ_axis) == (first, second)


@given(INT32, INT16, UINT8)
def test_the_sdk_reads_our_gripper(opening, effort, status):
    gripper = sdk_reads(frames.GRIPPER, frames.GripperFeedback(opening, effort, status)).gripper_feedback
    assert (gripper.grippers_angle, gripper.grippers_effort, gripper.status_code) == (opening, effort, status)
    assert gripper.foc_status.driver_enable_status == bool(status & frames.MOTOR_ENABLED)


@given(INT16, INT16, INT32, UINT16, INT16, INT8, UINT8)
def test_the_sdk_reads_our_motors(speed, current, position, voltage, hot, warm, status):
    fast = sdk_reads(0x254, frames.MotorFast(speed, current, position)).arm_high_spd_feedback_4
    assert (fast.motor_speed, fast.current, fast.pos) == (speed, current, position)
    slow = sdk_reads(0x266, frames.MotorSlow(voltage, hot, warm, status, 7)).arm_low_spd_feedback_6
    assert (slow.vol, slow.foc_temp, slow.motor_temp) == (voltage, hot, warm)
    assert (slow.foc_status_code, slow.bus_current) == (status, 7)


@given(st.integers(0, 5))
def test_the_sdk_reads_our_joint_errors(joint):
    status = frames.ArmStatus(1, 4, 1, beyond_limit=1 << joint, unreachable=0b100000 >> joint)
    read = sdk_reads(frames.ARM_STATUS, status).arm_status_msgs
    assert (int(read.ctrl_mode), int(read.arm_status), int(read.mode_feed)) == (1, 4, 1)
    for other in range(6):
        assert getattr(read.err_status, f"joint_{other + 1}_angle_limit") == (other == joint)
        assert getattr(read.err_status, f"communication_status_joint_{other + 1}") == (other == 5 - joint)


def test_the_sdk_reads_our_limits():
    limits = sdk_reads(frames.ANGLE_LIMITS, frames.AngleLimits(3, 0, -1700, 3000))
    read = limits.arm_feedback_current_motor_angle_limit_max_spd
    assert (read.motor_num, read.max_angle_limit, read.min_angle_limit, read.max_joint_spd) == (3, 0, -1700, 3000)
