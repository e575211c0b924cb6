"""Every fault of the simulated arm as the real SDK's user meets it."""

from __future__ import annotations

import time
import uuid

import can
import numpy as np
import pytest

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.piper import Piper
from vla_runtime.arms.simulated_faults import refuse_sends, report_bus_off, send_garbage
from vla_runtime.errors import WorkFailed

from .conftest import HOME, eventually, living

GOAL = np.array([0.4, 0.9, -1.1, 0.3, -0.2, 0.5, 0.05])


@pytest.fixture
def piper(arm):
    driver = Piper(arm.spec)
    driver.connect()
    yield driver
    driver.close()


@pytest.fixture
def bus(arm):
    with open_bus(arm.spec) as opened:
        yield opened


def test_a_fresh_arm_has_no_fault(arm, piper):
    first = piper.feedback().stamp
    eventually(lambda: piper.feedback().stamp > first + 0.6)  # longer than any part may be silent
    assert piper.feedback().faults == ()
    assert piper.notes == ()
    assert piper.feedback().firmware == "S-V1.8-2"


def test_a_silent_arm_still_obeys(arm, piper):
    piper.enable()
    eventually(lambda: piper.feedback().enabled)
    arm.faults.silent = True
    time.sleep(0.05)
    stamp = piper.feedback().stamp
    piper.command(GOAL)
    eventually(lambda: np.abs(arm._plant.positions - GOAL).max() < 1e-4)
    assert piper.feedback().stamp == stamp
    arm.faults.silent = False
    eventually(lambda: piper.feedback().stamp > stamp)


def test_a_deaf_arm_speaks_and_stays(arm, piper):
    piper.enable()
    eventually(lambda: piper.feedback().enabled)
    arm.faults.deaf = True
    stamp = piper.feedback().stamp
    piper.command(GOAL)
    eventually(lambda: piper.feedback().stamp > stamp + 0.2)
    np.testing.assert_allclose(piper.feedback().positions, HOME, atol=1e-4)


def test_a_frozen_arm_says_the_same_while_it_moves(arm, piper):
    piper.enable()
    eventually(lambda: piper.feedback().enabled)
    arm.faults.frozen = True
    stamp = piper.feedback().stamp
    eventually(lambda: piper.feedback().stamp > stamp + 0.05)  # by now it has said everything once
    piper.command(GOAL)
    eventually(lambda: np.abs(arm._plant.positions - GOAL).max() < 1e-4)
    stamp = piper.feedback().stamp
    eventually(lambda: piper.feedback().stamp > stamp + 0.05)
    np.testing.assert_allclose(piper.feedback().positions, HOME, atol=1e-4)
    arm.faults.frozen = False
    eventually(lambda: np.abs(piper.feedback().positions - GOAL).max() < 1e-4)


def test_late_feedback_begins_with_a_gap_as_long(arm, piper):
    arm.faults.delay = 0.3
    time.sleep(0.05)
    stamp = piper.feedback().stamp
    eventually(lambda: piper.feedback().stamp > stamp)
    assert piper.feedback().stamp >= stamp + 0.2


def test_the_bus_going_off_is_a_fault_at_once_and_gone_with_the_next_frame(arm, piper, bus):
    arm.faults.silent = arm.faults.deaf = True
    time.sleep(0.05)
    report_bus_off(bus)
    eventually(lambda: piper.feedback().faults == ("the CAN bus is off: nothing reaches the arm",))
    arm.faults.silent = arm.faults.deaf = False
    eventually(lambda: piper.feedback().faults == ())


def test_garbage_changes_nothing(arm, piper, bus):
    send_garbage(bus, 500, seed=1)
    stamp = piper.feedback().stamp
    eventually(lambda: piper.feedback().stamp > stamp + 0.1)
    np.testing.assert_allclose(piper.feedback().positions, HOME, atol=1e-4)
    assert piper.feedback().faults == ()
    assert set(arm.audit.frames) == {frames.FIRMWARE}


def test_sends_that_fail_are_errors_until_they_are_mended(arm, piper):
    mend = refuse_sends(piper._sdk.GetCanBus().send_bus)
    with pytest.raises(WorkFailed, match="did not take frame 0x151"):
        piper.command(GOAL)
    mend()
    piper.command(GOAL)


def test_power_that_a_motor_loses_is_seen(arm, piper):
    piper.enable()
    eventually(lambda: piper.feedback().enabled)
    arm.faults.unpowered = 1 << 2
    eventually(lambda: not piper.feedback().enabled)


def test_a_condition_of_the_controller_is_told(arm, piper):
    arm.faults.condition = 7
    eventually(lambda: piper.feedback().faults == ("collision",))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "did not tell its firmware version within"),
        ("nothing like a version", "did not tell its firmware version within"),
        ("S-V9.x-1", "is not a version such as"),
        ("S-V1.4-7", "speaks another protocol"),
    ],
)
def test_a_firmware_that_is_not_known_is_not_driven(arm, text, line):
    arm.faults.firmware = text
    with pytest.raises(WorkFailed, match=line):
        Piper(arm.spec, connect_timeout=0.6).connect()
    assert set(arm.audit.frames) == {frames.FIRMWARE}


def test_the_quirks_of_an_older_firmware_are_told(arm):
    arm.faults.firmware = "S-V1.6-2"
    driver = Piper(arm.spec)
    driver.connect()
    assert "two degrees" in driver.notes[0]
    eventually(lambda: driver.feedback().firmware == "S-V1.6-2")
    driver.close()


def test_mit_mode_that_the_firmware_does_not_leave_is_a_fault(arm, piper, bus):
    mode = frames.ControlMode(frames.CONTROL_BY_CAN, frames.MOVE_MIT, 10, mit=0xAD)
    bus.send(
        can.Message(
            arbitration_id=frames.CONTROL_MODE, data=frames.encode(frames.CONTROL_MODE, mode), is_extended_id=False
        )
    )
    eventually(lambda: any("MIT mode, which firmware S-V1.8-2 does not leave" in f for f in piper.feedback().faults))


def test_the_audit_of_a_steady_motion_is_its_speed():
    spec = f"virtual:{uuid.uuid4().hex}"
    with living(spec, command_period=0.01) as arm:
        driver = Piper(spec)
        driver.connect()
        driver.enable()
        eventually(lambda: driver.feedback().enabled)
        for k in range(1, 51):
            driver.command(np.array([HOME[0] + 0.005 * k, *HOME[1:]]))
            time.sleep(0.01)
        driver.close()
    assert 0.1 < arm.audit.fastest[0] <= 0.502  # slower where the machine was late, never faster
    assert np.all(arm.audit.fastest[1:] < 0.01)


def test_fewer_frames_with_the_last_one_always(arm):
    driver = Piper(arm.spec, send_every=5)
    driver.connect()
    driver.enable()
    eventually(lambda: driver.feedback().enabled)
    before = arm.audit.frames[frames.JOINT_TARGETS[0]]
    for share in np.linspace(0, 1, 23):
        driver.command(HOME + share * (GOAL - HOME))
    driver.command(GOAL)
    eventually(lambda: np.abs(driver.feedback().positions - GOAL).max() < 1e-4)
    assert arm.audit.frames[frames.JOINT_TARGETS[0]] - before <= 6
    driver.close()
