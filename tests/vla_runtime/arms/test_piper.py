"""The real SDK against the simulated arm, in one process and in two."""

import subprocess
import sys
import threading
import time
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.arms import piper_frames as frames
from vla_runtime.arms.piper import Piper
from vla_runtime.arms.piper_frames import whole_steps
from vla_runtime.arms.piper_limits import firmware_limits
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.errors import BadInput, WorkFailed

from .conftest import HOME, eventually, living

GOAL = np.array([0.4, 0.9, -1.1, 0.3, -0.2, 0.5, 0.05])


@pytest.fixture
def piper(arm):
    driver = Piper(arm.spec)
    driver.connect()
    yield driver
    driver.close()


def enable(piper):
    piper.enable()
    eventually(lambda: piper.feedback().enabled)


def test_feedback_is_the_arms_posture(piper):
    feedback = piper.feedback()
    np.testing.assert_allclose(feedback.positions[:6], HOME[:6], atol=frames.RADIANS_PER_STEP / 2)
    assert feedback.positions[6] == pytest.approx(HOME[6])
    assert (feedback.enabled, feedback.faults) == (False, ())


def test_enabling_holds_the_posture(arm, piper):
    enable(piper)
    first = piper.feedback().stamp
    eventually(lambda: piper.feedback().stamp > first + 0.1)
    np.testing.assert_allclose(piper.feedback().positions, HOME, atol=frames.RADIANS_PER_STEP)
    assert arm.audit.frames[frames.EMERGENCY_STOP] == 0
    assert arm.audit.frames[frames.MOTOR_POWER] == 6
    assert arm.audit.outside_limits == 0


@pytest.mark.parametrize(("second_joint", "enabled"), [(-0.02, True), (-0.3, False)])
def test_a_joint_resting_on_its_stop_is_enabled_and_one_far_beyond_is_not(second_joint, enabled):
    spec = f"virtual:{uuid.uuid4().hex}"
    with living(spec, KinematicPlant([0, second_joint, 0, 0, 0, 0, 0])) as simulated:
        driver = Piper(spec)
        driver.connect()
        if enabled:
            driver.enable()
            eventually(lambda: driver.feedback().enabled)
        else:
            with pytest.raises(WorkFailed, match="joint 2 of the arm on .* stands 17.2° beyond its limits"):
                driver.enable()
            assert set(simulated.audit.frames) == {frames.FIRMWARE}
        driver.close()
    assert simulated.audit.outside_limits == 0


def test_a_target_is_reached_to_the_wires_step(piper):
    enable(piper)
    piper.command(GOAL)
    expected = np.array(whole_steps(GOAL))

    def there():
        return np.array_equal(np.array(whole_steps(piper.feedback().positions)), expected)

    eventually(there)
    eventually(lambda: np.all(piper.feedback().velocities == 0))


def test_velocities_have_the_direction_of_the_motion(piper):
    enable(piper)
    target = np.array([2.0, 2.0, -2.0, 1.5, -1.0, 1.5, 0.07])
    piper.command(target)
    eventually(lambda: np.all(np.abs(piper.feedback().velocities[:5]) > 0))
    eventually(lambda: piper.feedback().velocities[6] != 0 or piper.feedback().positions[6] == 0.07)
    assert np.all(np.sign(piper.feedback().velocities[:5]) == np.sign(target - HOME)[:5])


def test_a_dying_arm_grows_stale(arm):
    now = [time.time()]
    driver = Piper(arm.spec, clock=lambda: now[0])
    driver.connect()
    arm.die()
    time.sleep(0.05)  # what is already on its way arrives
    stamp = driver.feedback().stamp
    now[0] += 5
    time.sleep(0.05)
    assert driver.feedback().stamp == stamp
    assert now[0] - driver.feedback().stamp > 4.9
    with pytest.raises(WorkFailed, match="no fresh feedback"):
        driver.enable()
    driver.close()


def test_a_part_that_falls_silent_is_a_fault(arm, piper, monkeypatch):
    monkeypatch.setattr(arm, "_send_slow", lambda: None)
    eventually(lambda: any("motor status of joint 4: not heard" in fault for fault in piper.feedback().faults))


def test_faults_are_told_in_words(arm, piper):
    arm.faults.motor_bits[2] = 1 << 4
    eventually(lambda: piper.feedback().faults == ("joint 3: collision protection",))
    arm.faults.motor_bits[2] = 0
    eventually(lambda: piper.feedback().faults == ())
    enable(piper)
    piper.command(np.array([0, 0, 0, 1.8, 0, 0, 0.0]))
    eventually(lambda: piper.feedback().faults == ("target beyond a joint limit", "joint 4: angle limit exceeded"))


def test_the_emergency_button_is_a_fault_and_is_never_released_by_us(arm, piper):
    enable(piper)
    arm._stopped = True
    eventually(lambda: piper.feedback().faults == ("emergency stop",))
    piper.command(GOAL)
    assert arm.audit.frames[frames.EMERGENCY_STOP] == 0


def test_disabling_cuts_every_motor(piper):
    enable(piper)
    piper.disable()
    eventually(lambda: not piper.feedback().enabled)


def test_only_one_thread_may_send(piper):
    enable(piper)
    caught = []

    def intrude():
        try:
            piper.command(GOAL)
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=intrude, name="intruder")
    thread.start()
    thread.join()
    assert "intruder" in caught[0]


def test_a_target_goes_out_whole_before_the_next_word_of_the_arm_is_taken_in(piper, monkeypatch):
    stamps = []
    aim = piper._sdk.JointCtrl

    def slow(*steps):
        stamps.append(piper.feedback().stamp)
        time.sleep(0.05)  # ten rounds of the arm's feedback
        stamps.append(piper.feedback().stamp)
        aim(*steps)

    monkeypatch.setattr(piper._sdk, "JointCtrl", slow)
    piper.command(np.zeros(7))
    before, after = stamps
    assert before == after
    eventually(lambda: piper.feedback().stamp > after)


@pytest.mark.parametrize("bad", [np.full(7, np.nan), np.zeros(6), np.array([0, 0, 0, 0, 0, 0, np.inf])])
def test_a_target_that_is_not_seven_finite_numbers_sends_nothing(arm, piper, bad):
    with pytest.raises(ValueError, match="seven finite numbers"):
        piper.command(bad)
    assert set(arm.audit.frames) == {frames.FIRMWARE}


def test_a_send_the_bus_refuses_is_an_error(piper):
    piper._sdk.GetCanBus().send_bus.shutdown()
    with pytest.raises(WorkFailed, match="did not take frame 0x151"):
        piper.command(GOAL)


def test_closing_lets_the_same_process_connect_again(arm):
    for _ in range(3):
        driver = Piper(arm.spec)
        driver.connect()
        with pytest.raises(WorkFailed, match="already open"):
            Piper(arm.spec).connect()
        before = threading.active_count()
        driver.close()
        assert threading.active_count() == before - 1
        assert driver.feedback() is None


def test_silence_on_connecting_names_the_bus_and_what_to_check():
    with pytest.raises(WorkFailed, match=r"'virtual:nobody' said nothing within 0\.1 s: check that it is powered"):
        Piper("virtual:nobody", connect_timeout=0.1).connect()


def test_an_arm_without_a_gripper_is_named(arm, monkeypatch):
    arm._bus.send = lambda message, send=arm._bus.send: message.arbitration_id != frames.GRIPPER and send(message)
    with pytest.raises(WorkFailed, match="said no gripper within"):
        Piper(arm.spec, connect_timeout=0.3).connect()


def test_a_missing_interface_fails_with_the_remedy():
    with pytest.raises(WorkFailed, match="sudo ip link set nosuchcan up"):
        Piper("nosuchcan").connect()


@pytest.mark.parametrize("options", [{"speed_percent": 0}, {"speed_percent": 101}, {"gripper_effort": 5.1}])
def test_settings_the_arm_does_not_know_are_refused(options):
    with pytest.raises(BadInput):
        Piper("virtual:x", **options)


@given(st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_rounding_never_leaves_the_limits_and_loses_less_than_a_step(shares):
    low, high = firmware_limits().T
    target = low + np.array(shares) * (high - low)
    units = np.array([frames.RADIANS_PER_STEP] * 6 + [frames.METRES_PER_STEP])
    sent = np.array(whole_steps(target)) * units
    assert np.all(np.abs(sent) <= np.abs(target) + 1e-5 * units)
    assert np.all(np.abs(sent - target) < units * 1.00001)


@given(st.lists(st.integers(-180_000, 180_000), min_size=6, max_size=6), st.integers(0, 70_000))
def test_whole_steps_stay_whole(steps, opening):
    target = np.array([step * np.pi / 180_000 for step in steps] + [opening / 1e6])
    assert whole_steps(target) == [*steps, opening]


ARM_PROCESS = """
import sys, threading
from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper
with open_bus(sys.argv[1]) as bus:
    arm = SimulatedPiper(bus, KinematicPlant([0.1, 0.5, -0.7, 0.2, 0.3, -0.4, 0.02]))
    stop = threading.Event()
    thread = threading.Thread(target=arm.run, args=(stop,))
    thread.start()
    print("alive", flush=True)
    sys.stdin.readline()
    stop.set()
    thread.join()
    print(arm.audit.outside_limits, arm.audit.frames[0x155], flush=True)
"""


def test_two_processes_over_udp():
    spec = f"udp:{uuid.uuid4().hex}"
    process = subprocess.Popen(
        [sys.executable, "-c", ARM_PROCESS, spec], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "alive\n"
        driver = Piper(spec, connect_timeout=10)
        driver.connect()
        enable(driver)
        driver.command(GOAL)
        eventually(lambda: whole_steps(driver.feedback().positions) == whole_steps(GOAL))
        output, _ = process.communicate("die\n", timeout=10)
        assert output == "0 3\n"
        time.sleep(0.05)
        stamp = driver.feedback().stamp
        time.sleep(0.05)
        assert driver.feedback().stamp == stamp
        driver.close()
    finally:
        process.kill()
        process.wait()
