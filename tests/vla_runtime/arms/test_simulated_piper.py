"""The simulated arm, step by step in its own time, and as the manufacturer's SDK sees it."""

import time
import uuid
from collections import Counter

import can
import numpy as np
import pytest

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.piper_limits import MAX_JOINT_SPEED, firmware_limits
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.errors import BadInput

from .conftest import HOME, eventually


class Bench:
    """A simulated arm on a virtual bus, its time in the test's hands."""

    def __init__(self, **options):
        name = uuid.uuid4().hex
        self.computer = open_bus(f"virtual:{name}")
        self.bus = open_bus(f"virtual:{name}")
        self.plant = KinematicPlant(HOME)
        self.arm = SimulatedPiper(self.bus, self.plant, **options)
        self.now = 0.0

    def send(self, identifier, message):
        data = message if isinstance(message, bytes) else frames.encode(identifier, message)
        self.computer.send(can.Message(arbitration_id=identifier, data=data, is_extended_id=False))

    def aim(self, *degrees):
        steps = [round(angle * 1000) for angle in degrees]
        for index, identifier in enumerate(frames.JOINT_TARGETS):
            self.send(identifier, frames.Pair(*steps[2 * index : 2 * index + 2]))

    def ready(self, speed=100):
        self.send(frames.CONTROL_MODE, frames.ControlMode(frames.CONTROL_BY_CAN, frames.MOVE_J, speed))
        for motor in range(1, 7):
            self.send(frames.MOTOR_POWER, frames.MotorPower(motor, frames.POWER_ON))

    def run(self, seconds, period=0.005):
        """Step for ``seconds`` and return everything the arm said."""
        for _ in range(round(seconds / period)):
            self.arm.step(self.now)
            self.now += period
        heard = []
        while (message := self.computer.recv(0)) is not None:
            heard.append((message.arbitration_id, bytes(message.data)))
        return heard

    def close(self):
        self.arm.close()
        self.computer.shutdown()
        self.bus.shutdown()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


def last(heard, identifier):
    return frames.decode(identifier, [data for seen, data in heard if seen == identifier][-1])


def test_feedback_comes_at_the_arms_own_rates(bench):
    counts = Counter(identifier for identifier, _ in bench.run(1.0, period=0.001))
    fast = (frames.ARM_STATUS, *frames.END_POSE, *frames.JOINTS, frames.GRIPPER, *frames.MOTOR_FAST)
    assert {counts[identifier] for identifier in fast} == {200}
    assert {counts[identifier] for identifier in frames.MOTOR_SLOW} == {40}
    assert counts.total() == 3040


def test_missed_feedback_is_not_made_up_for(bench):
    bench.run(0.1)
    bench.now += 30
    assert len(bench.run(0.005)) == 20


def test_targets_are_reached_to_the_wires_step_at_the_commanded_speed(bench):
    bench.ready(speed=50)
    bench.run(0.01)
    goal = np.array([10.123, 40.001, -30.999, -5.5, 12.345, -20.02])
    bench.aim(*goal)
    bench.run(0.1)
    travelled = np.abs(bench.plant.positions[:6] - HOME[:6])
    assert np.max(travelled) == pytest.approx(0.5 * MAX_JOINT_SPEED * 0.1, rel=0.06)
    heard = bench.run(2.0)
    measured = [angle for identifier in frames.JOINTS for angle in last(heard, identifier)]
    assert measured == [round(angle * 1000) for angle in goal]
    assert last(heard, frames.ARM_STATUS).moving == 0


def test_speed_feedback_is_the_speed(bench):
    bench.ready(speed=10)
    bench.aim(90, 0, 0, 0, 0, 0)
    heard = bench.run(0.5)
    assert last(heard, 0x251).speed == pytest.approx(0.1 * MAX_JOINT_SPEED * 1000, abs=1)


@pytest.mark.parametrize("mode", [None, (frames.CONTROL_STANDBY, frames.MOVE_J), (frames.CONTROL_BY_CAN, 0)])
def test_targets_outside_can_control_and_move_j_are_ignored(bench, mode):
    bench.ready()
    if mode is not None:
        bench.send(frames.CONTROL_MODE, frames.ControlMode(*mode, 100))
    else:
        bench.send(frames.EMERGENCY_STOP, frames.EmergencyStop(frames.STOP))
    bench.aim(50, 50, -50, 50, 50, 50)
    bench.run(1.0)
    np.testing.assert_array_equal(bench.plant.positions, HOME)


def test_a_motor_without_power_stands_still(bench):
    bench.ready()
    bench.send(frames.MOTOR_POWER, frames.MotorPower(2, frames.POWER_OFF))
    bench.aim(10, 10, -10, 10, 10, 10)
    heard = bench.run(2.0)
    moved = bench.plant.positions[:6] != np.array(HOME[:6])
    assert moved.tolist() == [True, False, True, True, True, True]
    powered = [bool(last(heard, identifier).status & frames.MOTOR_ENABLED) for identifier in frames.MOTOR_SLOW]
    assert powered == [True, False, True, True, True, True]


def test_power_comes_back_without_a_leap(bench):
    bench.ready()
    bench.send(frames.MOTOR_POWER, frames.MotorPower(7, frames.POWER_OFF))
    bench.aim(80, 80, -80, 80, 60, 80)
    bench.run(0.1)
    bench.send(frames.MOTOR_POWER, frames.MotorPower(7, frames.POWER_ON))
    bench.run(1.0)
    np.testing.assert_array_equal(bench.plant.positions, HOME)


def test_emergency_stop_freezes_and_reset_cuts_power(bench):
    bench.ready()
    bench.aim(90, 90, -90, 0, 0, 0)
    bench.run(0.1)
    bench.send(frames.EMERGENCY_STOP, frames.EmergencyStop(frames.STOP))
    heard = bench.run(0.05)
    stopped = bench.plant.positions
    assert last(heard, frames.ARM_STATUS).condition == 1
    bench.run(1.0)
    np.testing.assert_array_equal(bench.plant.positions, stopped)
    bench.send(frames.EMERGENCY_STOP, frames.EmergencyStop(frames.RESET))
    heard = bench.run(0.05)
    assert last(heard, frames.ARM_STATUS).condition == 0
    assert not any(last(heard, identifier).status & frames.MOTOR_ENABLED for identifier in frames.MOTOR_SLOW)


def test_targets_beyond_the_limits_are_refused_reported_and_counted(bench):
    bench.ready()
    bench.aim(150, 0, -170, 100, -70, -120)
    bench.run(0.1)
    assert bench.arm.audit.outside_limits == 0
    bench.aim(150.001, 0, -170, 100, 0, -120.001)
    heard = bench.run(0.1)
    assert bench.arm.audit.outside_limits == 2
    assert last(heard, frames.ARM_STATUS).beyond_limit == 0b100001
    bench.run(5)
    assert np.all(bench.plant.positions >= firmware_limits()[:, 0] - 1e-12)
    assert np.all(bench.plant.positions <= firmware_limits()[:, 1] + 1e-12)
    np.testing.assert_allclose(np.degrees(bench.arm.audit.highest[:6]), [150.001, 0, -170, 100, 0, -120])
    np.testing.assert_allclose(np.degrees(bench.arm.audit.lowest[:6]), [150, 0, -170, 100, -70, -120.001])


def test_the_gripper_moves_while_switched_on(bench):
    bench.send(frames.GRIPPER_TARGET, frames.GripperTarget(55_000, 1000, frames.GRIPPER_ON))
    heard = bench.run(1.0)
    assert last(heard, frames.GRIPPER) == frames.GripperFeedback(55_000, 0, frames.MOTOR_ENABLED)
    bench.send(frames.GRIPPER_TARGET, frames.GripperTarget(0, 1000, frames.GRIPPER_OFF))
    heard = bench.run(1.0)
    assert last(heard, frames.GRIPPER) == frames.GripperFeedback(55_000, 0, 0)


def test_malformed_frames_and_strangers_do_nothing(bench):
    bench.ready()
    bench.send(frames.JOINT_TARGETS[0], bytes(3))
    bench.send(0x123, bytes(8))
    bench.run(0.1)
    assert bench.arm.audit.malformed == 1
    np.testing.assert_array_equal(bench.plant.positions, HOME)


def test_settings_are_acknowledged(bench):
    bench.send(frames.MOTOR_POWER, frames.MotorPower(1, frames.POWER_ON))
    assert last(bench.run(0.005), frames.ACKNOWLEDGE) == frames.Acknowledge(0x71)


def test_the_recording_holds_every_command(tmp_path):
    log = tmp_path / "commands.log"
    bench = Bench(recording=log)
    bench.ready()
    bench.aim(1, 2, -3, 4, 5, 6)
    bench.run(0.1)
    bench.close()
    recorded = list(can.CanutilsLogReader(log))
    assert [message.arbitration_id for message in recorded] == [0x151] + [0x471] * 6 + [0x155, 0x156, 0x157]
    assert frames.decode(0x156, bytes(recorded[-2].data)) == frames.Pair(-3000, 4000)
    assert bench.arm.audit.frames.total() == len(recorded)


def test_a_firmware_that_is_no_version_is_refused(bench):
    with pytest.raises(BadInput, match="latest"):
        SimulatedPiper(bench.bus, bench.plant, firmware="latest")


@pytest.fixture
def sdk(arm):
    """The manufacturer's SDK as its users start it, queries included, on the simulated arm's bus."""
    from piper_sdk import C_PiperInterface_V2

    channel = arm.spec.partition(":")[2]
    interface = C_PiperInterface_V2(channel, judge_flag=False, can_auto_init=False)
    interface.CreateCanBus(channel, bustype="virtual", judge_flag=False)
    interface.ConnectPort()
    yield interface
    interface.DisconnectPort()
    C_PiperInterface_V2._instances.pop(channel)


def test_the_sdk_reads_firmware_and_limits(sdk):
    def firmware():
        sdk.SearchPiperFirmwareVersion()
        time.sleep(0.05)  # for the answer; asking again forgets it
        return sdk.GetPiperFirmwareVersion() == "S-V1.8-2"

    eventually(firmware)
    for motor, limits in ((3, (-1700, 0, 3000)), (6, (-1200, 1200, 3000))):  # its table of all motors repeats the last
        sdk.SearchMotorMaxAngleSpdAccLimit(motor, 1)
        read = sdk.GetCurrentMotorAngleLimitMaxVel().current_motor_angle_limit_max_vel
        eventually(lambda motor=motor, read=read: read.motor_num == motor)
        assert (read.min_angle_limit, read.max_angle_limit, read.max_joint_spd) == limits
    sdk.SearchMotorMaxAngleSpdAccLimit(2, 2)
    acceleration = sdk.GetCurrentMotorMaxAccLimit().current_motor_max_acc_limit
    eventually(lambda: (acceleration.joint_motor_num, acceleration.max_joint_acc) == (2, 5000))


def test_the_sdk_sees_the_flange_where_its_own_kinematics_put_it(sdk):
    eventually(lambda: sdk.GetArmEndPoseMsgs().end_pose.RZ_axis != 0)
    sdk.EnableFkCal()
    eventually(lambda: sdk.GetFK("feedback")[5][0] != 0)
    pose = sdk.GetArmEndPoseMsgs().end_pose
    reported = [pose.X_axis, pose.Y_axis, pose.Z_axis, pose.RX_axis, pose.RY_axis, pose.RZ_axis]
    np.testing.assert_allclose(np.array(reported) / 1000, sdk.GetFK("feedback")[5], atol=0.02)
