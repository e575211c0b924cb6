"""The drivers' arms over a link of plain data: order, units, freshness, and what they send when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.arms.agx_arm_driver import AgxArmDriver
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.driver_link import JointMessage
from vla_runtime.arms.piper_ros_driver import PiperRosDriver
from vla_runtime.errors import WorkFailed

STEP = np.pi / 180_000
POSTURE = (0.1, 0.5, -0.7, 0.2, 0.3, -0.4, 0.02)


class Link:
    """A driver that says what the test says."""

    def __init__(self) -> None:
        self.sent: list[JointMessage] = []
        self.powers: list[bool] = []
        self.parameters_of_driver: dict[str, object] = {"effector_type": "agx_gripper"}
        self.wrong: tuple[str, ...] = ()
        self.answer: Callable[[bool, str], None] | None = None
        self.heard: Callable[[JointMessage], None] = lambda message: None
        self.at_opening: JointMessage | None = None

    def open(self, heard: Callable[[JointMessage], None]) -> None:
        self.heard = heard
        if self.at_opening is not None:
            heard(self.at_opening)

    def parameters(self, names: Sequence[str], timeout: float) -> Mapping[str, object]:
        return {name: value for name, value in self.parameters_of_driver.items() if name in names}

    def command(self, message: JointMessage) -> None:
        self.sent.append(message)

    def power(self, on: bool, answered: Callable[[bool, str], None]) -> None:
        self.powers.append(on)
        self.answer = answered

    def complaints(self) -> tuple[str, ...]:
        return self.wrong

    def close(self) -> None:
        self.heard = lambda message: None


class Bench:
    """An arm over such a link, its clock in the test's hands."""

    def __init__(self, driver: type[PiperRosDriver] | type[AgxArmDriver], **given: Any) -> None:
        self.link, self.now = Link(), 1000.0
        self.arm = driver(self.link, clock=lambda: self.now, connect_timeout=0.05, **given)

    def say(self, stamp: float | None = None, **changes: Any) -> None:
        message = JointMessage(self.now if stamp is None else stamp, JOINT_NAMES, POSTURE, (0.1,) * 6)
        self.link.heard(message._replace(**changes))

    def connected(self) -> Bench:
        self.link.at_opening = JointMessage(self.now, JOINT_NAMES, POSTURE, (0.1,) * 6)
        self.arm.connect()
        return self

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.say()


@pytest.fixture(params=[PiperRosDriver, AgxArmDriver])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param).connected()


def feedback(bench: Bench) -> Any:
    found = bench.arm.feedback()
    assert found is not None
    return found


def test_joints_are_read_by_name_whatever_their_order(bench: Bench) -> None:
    bench.now += 0.01
    bench.say(names=JOINT_NAMES[::-1], positions=POSTURE[::-1], velocities=(0.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0))
    np.testing.assert_allclose(feedback(bench).positions, POSTURE, rtol=6e-4)
    np.testing.assert_allclose(feedback(bench).velocities[:6], [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    "changes",
    [
        {"names": JOINT_NAMES[:6]},
        {"positions": POSTURE[:6]},
        {"positions": (*POSTURE[:6], float("nan"))},
        {"stamp": 999.0},
        {"stamp": 1000.0},
        {"stamp": 0.0},
    ],
    ids=["unnamed", "short", "nan", "older", "again", "unstamped"],
)
def test_what_cannot_be_relied_on_is_not_feedback(bench: Bench, changes: dict[str, Any]) -> None:
    before = feedback(bench)
    bench.now += 0.01
    bench.say(**changes)
    assert bench.arm.feedback() is before


def test_a_stamp_from_the_future_is_now(bench: Bench) -> None:
    bench.now += 0.01
    bench.say(stamp=bench.now + 60)
    assert feedback(bench).stamp == bench.now


def test_the_grippers_speed_is_the_change_of_its_opening(bench: Bench) -> None:
    for opening in (0.02, 0.021, 0.022):
        bench.now += 0.05
        bench.say(positions=(*POSTURE[:6], opening))
    assert feedback(bench).velocities[6] == pytest.approx(0.02)


@given(st.lists(st.floats(-2.6, 2.6), min_size=6, max_size=6), st.floats(0, 0.07))
def test_piper_ros_turns_what_it_gets_into_the_steps_that_were_meant(joints: list[float], opening: float) -> None:
    bench = Bench(PiperRosDriver)
    bench.arm.command(np.array([*joints, opening]))
    (message,) = bench.link.sent
    on_the_wire = [round(angle * 57324.840764) for angle in message.positions[:6]]
    for steps, angle in zip(on_the_wire, joints, strict=True):
        assert abs(steps * STEP) <= abs(angle) + 1e-9
        assert abs(steps * STEP - angle) < STEP * 1.001
    assert abs(message.positions[6] - opening) <= 1e-6 * 1.001


@given(st.lists(st.integers(-150_000, 150_000), min_size=6, max_size=6))
def test_piper_ros_angles_come_back_as_the_steps_they_were(steps: list[int]) -> None:
    bench = Bench(PiperRosDriver).connected()
    bench.now += 0.01
    bench.say(positions=(*(step / 1000 * 0.017444 for step in steps), 0.03))
    np.testing.assert_allclose(feedback(bench).positions[:6], np.array(steps) * STEP, atol=1e-12)


def test_piper_ros_gets_its_speed_and_effort_in_the_seventh_places() -> None:
    bench = Bench(PiperRosDriver, speed_percent=40, gripper_effort=1.5)
    bench.arm.command(np.array(POSTURE))
    (message,) = bench.link.sent
    assert message.names == JOINT_NAMES
    assert message.velocities == (0, 0, 0, 0, 0, 0, 40)
    assert message.efforts == (0, 0, 0, 0, 0, 0, 1.5)


def test_agx_arm_ros_gets_no_velocities() -> None:
    bench = Bench(AgxArmDriver, gripper_effort=2.0)
    bench.arm.command(np.array(POSTURE))
    (message,) = bench.link.sent
    assert (message.names, message.velocities, message.efforts) == (JOINT_NAMES, (), (0, 0, 0, 0, 0, 0, 2.0))
    np.testing.assert_allclose(message.positions, POSTURE, atol=STEP)


def test_power_is_asked_once_and_the_gripper_keeps_its_opening_until_it_is_there(bench: Bench) -> None:
    bench.arm.enable()
    assert bench.link.powers == [True]
    bench.arm.command(np.array([*POSTURE[:6], 0.001]))  # where the closing gripper is measured by now
    assert bench.link.sent[-1].positions[6] == pytest.approx(0.02)
    assert not feedback(bench).enabled
    assert bench.link.answer is not None
    bench.link.answer(True, "enabled")
    bench.pass_time(0.6)
    assert feedback(bench).enabled
    bench.arm.command(np.array([*POSTURE[:6], 0.001]))
    assert bench.link.sent[-1].positions[6] == pytest.approx(0.001)


def test_the_successor_counts_as_powered_when_it_says_so() -> None:
    bench = Bench(AgxArmDriver).connected()
    bench.arm.enable()
    bench.pass_time(3.0)
    assert not feedback(bench).enabled
    assert bench.link.answer is not None
    bench.link.answer(False, "Timeout")
    bench.pass_time(0.01)
    assert (feedback(bench).enabled, feedback(bench).faults) == (False, ("agx_arm_ros refused: Timeout",))
    bench.arm.enable()
    bench.link.answer(True, "")
    bench.pass_time(0.01)
    assert (feedback(bench).enabled, feedback(bench).faults) == (True, ())


def test_disabling_is_asked_and_believed(bench: Bench) -> None:
    bench.arm.enable()
    bench.arm.disable()
    bench.pass_time(1.0)
    assert (bench.link.powers, feedback(bench).enabled) == ([True, False], False)


def test_an_answer_that_comes_after_the_next_question_is_void() -> None:
    bench = Bench(AgxArmDriver).connected()
    bench.arm.enable()
    late = bench.link.answer
    bench.arm.disable()
    bench.now += 0.1
    bench.say()
    bench.arm.enable()
    assert late is not None
    late(True, "")
    bench.pass_time(0.01)
    assert not feedback(bench).enabled


def test_connecting_and_closing_send_nothing(bench: Bench) -> None:
    bench.arm.close()
    assert (bench.link.sent, bench.link.powers) == ([], [])
    assert bench.arm.feedback() is None


def test_complaints_of_the_link_are_faults_and_forbid_power(bench: Bench) -> None:
    bench.link.wrong = ("/joystick also commands the arm",)
    bench.pass_time(0.01)
    assert feedback(bench).faults == bench.link.wrong
    with pytest.raises(WorkFailed, match="joystick"):
        bench.arm.enable()
    assert bench.link.powers == []


def test_stale_or_impossible_postures_are_not_powered(bench: Bench) -> None:
    bench.now += 0.6
    with pytest.raises(WorkFailed, match="no fresh feedback"):
        bench.arm.enable()
    bench.say(positions=(0, -0.5, 0, 0, 0, 0, 0))
    with pytest.raises(WorkFailed, match="joint 2 of the arm behind"):
        bench.arm.enable()
    assert bench.link.powers == []


def test_a_driver_that_says_something_else_is_named() -> None:
    bench = Bench(AgxArmDriver)
    bench.link.at_opening = JointMessage(bench.now, JOINT_NAMES[:6], POSTURE[:6])
    with pytest.raises(WorkFailed, match="agx_arm_ros said no joints named joint1"):
        bench.arm.connect()


def test_only_one_thread_sends(bench: Bench) -> None:
    bench.arm.command(np.array(POSTURE))
    caught: list[str] = []

    def intrude() -> None:
        with pytest.raises(RuntimeError) as error:
            bench.arm.command(np.array(POSTURE))
        caught.append(str(error.value))

    thread = threading.Thread(target=intrude, name="intruder")
    thread.start()
    thread.join()
    assert "intruder" in caught[0]


@pytest.mark.parametrize("bad", [np.full(7, np.nan), np.zeros(6), np.array([0, 0, 0, 0, 0, 0, np.inf])])
def test_a_target_that_is_not_seven_finite_numbers_sends_nothing(bench: Bench, bad: Any) -> None:
    with pytest.raises(ValueError, match="seven finite numbers"):
        bench.arm.command(bad)
    assert bench.link.sent == []
