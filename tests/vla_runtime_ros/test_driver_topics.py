"""Each driver profile against a stand-in of its driver, over real DDS: what it gets, and what becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from vla_runtime.arms.arm import Arm
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime_ros.arm_choice import PARAMETERS, open_arm
from vla_runtime_ros.control_loop import ControlLoop
from vla_runtime_ros.pace import Pace

from .driver_stand_ins import HOME, STEP, AgxArmStandIn, BadMessageError, PiperRosStandIn, StandIn, eventually

CONTROL_RATE = 100.0
STAND_INS: dict[str, type[PiperRosStandIn] | type[AgxArmStandIn]] = {
    "piper_ros": PiperRosStandIn,
    "agx_arm_ros": AgxArmStandIn,
}
VALUES: dict[str, Any] = {
    **{parameter.name: parameter.default for parameter in PARAMETERS},
    "joint_states_topic": "joint_states",
}
GOAL = np.array([0.3, 0.8, -0.9, 0.3, -0.2, 0.5, 0.05])


@pytest.fixture
def node(ros: None) -> Iterator[Node]:
    made = rclpy.create_node("arm_node")
    yield made
    made.destroy_node()


@pytest.fixture
def start(ros: None) -> Iterator[Callable[..., Any]]:
    living: list[StandIn] = []

    def stand_in(name: str, **options: Any) -> StandIn:
        common = {"allowed_rate": CONTROL_RATE, "velocity": PIPER_LIMITS.velocity, "period": 1 / CONTROL_RATE}
        living.append(STAND_INS[name](**{**common, **options}))
        living[-1].start()
        return living[-1]

    yield stand_in
    for one in living:
        one.end()
        one.sound()


def arm_of(node: Node, name: str, **given: Any) -> Arm:
    return open_arm(node, {**VALUES, "arm": name, **given}.__getitem__)


@pytest.fixture(params=list(STAND_INS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Controlled:
    """The real controller on the arm, at the control rate, in the loop the arm node runs."""

    def __init__(self, arm: Arm) -> None:
        controller = ArmController(ControlSettings(period=1 / CONTROL_RATE, chunk_timeout=3.0), PIPER_LIMITS)
        self.loop = ControlLoop(arm, controller, Pace(CONTROL_RATE), time.time)
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.loop.run, args=(self.stopping,))

    def __enter__(self) -> ControlLoop:
        self.thread.start()
        self.loop.connected.result(20)
        self.loop.ticking.set()
        return self.loop

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join()


def state(loop: ControlLoop) -> str:
    return "" if loop.latest is None else loop.latest.state.name


def test_the_posture_is_measured_to_the_wires_step(node: Node, start: Callable[..., Any], name: str) -> None:
    stand_in = start(name)
    arm = arm_of(node, name)
    arm.connect()
    feedback = arm.feedback()
    assert feedback is not None
    np.testing.assert_allclose(feedback.positions, HOME, atol=STEP[0])
    assert (feedback.enabled, feedback.faults, feedback.firmware) == (False, (), None)
    assert any("collision" in note for note in arm.notes)
    arm.close()
    assert arm.feedback() is None
    assert stand_in.commands == []


def test_a_second_arm_has_its_own_namespace(ros: None, start: Callable[..., Any], name: str) -> None:
    left, right = start(name, namespace="left"), start(name, namespace="right")
    right.plant.apply(np.zeros(7), 10.0)
    nodes = {side: rclpy.create_node("arm_node", namespace=side) for side in ("left", "right")}
    arms = {side: arm_of(node, name) for side, node in nodes.items()}
    for arm in arms.values():
        arm.connect()
    np.testing.assert_allclose(arms["left"].feedback().positions, HOME, atol=STEP[0])  # type: ignore[union-attr]
    np.testing.assert_allclose(arms["right"].feedback().positions, 0, atol=STEP[0])  # type: ignore[union-attr]
    arms["right"].enable()
    eventually(lambda: right.enabled)
    assert not left.enabled
    for side, arm in arms.items():
        arm.close()
        nodes[side].destroy_node()


def test_the_arm_follows_a_chunk_and_every_message_is_sound(node: Node, start: Callable[..., Any], name: str) -> None:
    stand_in = start(name)
    with Controlled(arm_of(node, name)) as loop:
        assert loop.ask(lambda controller, now: controller.request_enable(now)).result(5) is None
        eventually(lambda: state(loop) == "HOLDING")
        np.testing.assert_allclose(stand_in.plant.positions, HOME, atol=0.005)
        assert loop.ask(lambda controller, now: controller.request_resume(now)).result(5) is None
        times = np.arange(1, 16) / 10
        path = np.array(HOME) + np.clip(times / 1.4, 0, 1)[:, None] * (GOAL - HOME)
        loop.offer(ActionChunk(time.time(), times, path))
        eventually(lambda: state(loop) == "TRACKING")
        eventually(lambda: np.abs(stand_in.plant.positions - GOAL).max() < 0.05)
        loop.ask(lambda controller, now: controller.request_hold(now, "test"))
        eventually(lambda: state(loop) == "HOLDING")
    stand_in.sound()
    assert len(stand_in.commands) > 50


def test_what_is_asked_is_what_the_arm_gets(node: Node, start: Callable[..., Any], name: str) -> None:
    stand_in = start(name, velocity=np.full(7, np.inf))
    arm = arm_of(node, name)
    arm.connect()
    arm.enable()
    eventually(lambda: arm.feedback().enabled)  # type: ignore[union-attr]
    target = np.array([2.6179, 3.14, -2.967, -1.745, 1.22, -1.745, 0.07])
    wanted = np.trunc(target / STEP + np.copysign(1e-6, target)).tolist()
    eventually(lambda: arm.command(target) or (stand_in.steps and stand_in.steps[-1] == wanted))
    eventually(lambda: np.abs(arm.feedback().positions - target).max() < STEP[0])  # type: ignore[union-attr]
    arm.close()


def test_powering_gives_the_gripper_back_what_it_held(node: Node, start: Callable[..., Any]) -> None:
    stand_in = start("piper_ros", velocity=np.full(7, np.inf))
    with Controlled(arm_of(node, "piper_ros")) as loop:
        loop.ask(lambda controller, now: controller.request_enable(now))
        eventually(lambda: state(loop) == "HOLDING")
        eventually(lambda: abs(stand_in.plant.positions[6] - HOME[6]) < 1e-4)


def test_nothing_is_sent_before_enabling_nor_after_closing(node: Node, start: Callable[..., Any], name: str) -> None:
    stand_in = start(name)
    with Controlled(arm_of(node, name)) as loop:
        time.sleep(0.3)
        assert (stand_in.commands, stand_in.enabled) == ([], False)
        loop.ask(lambda controller, now: controller.request_enable(now))
        eventually(lambda: state(loop) == "HOLDING")
    time.sleep(0.1)
    sent = len(stand_in.commands)
    time.sleep(0.2)
    assert (len(stand_in.commands), stand_in.enabled) == (sent, True)


def test_fewer_targets_are_sent_where_the_arm_shakes(node: Node, start: Callable[..., Any], name: str) -> None:
    stand_in = start(name, allowed_rate=CONTROL_RATE / 4, period=4 / CONTROL_RATE)
    with Controlled(arm_of(node, name, send_every=4)) as loop:
        loop.ask(lambda controller, now: controller.request_enable(now))
        eventually(lambda: state(loop) == "HOLDING")
        eventually(lambda: len(stand_in.commands) >= 30)


@pytest.mark.parametrize("trouble", ["mute", "frozen"])
def test_a_driver_that_falls_silent_or_says_the_same_again_goes_stale(
    node: Node, start: Callable[..., Any], name: str, trouble: str
) -> None:
    stand_in = start(name)
    arm = arm_of(node, name)
    arm.connect()
    setattr(stand_in, trouble, True)
    time.sleep(0.1)
    stamp = arm.feedback().stamp  # type: ignore[union-attr]
    time.sleep(0.6)
    assert arm.feedback().stamp == stamp  # type: ignore[union-attr]
    with pytest.raises(WorkFailed, match=f"behind {name} gives no fresh feedback"):
        arm.enable()
    arm.close()


def test_without_a_driver_it_says_what_to_start(node: Node, name: str) -> None:
    with pytest.raises(WorkFailed, match="nobody listens on|said nothing within"):
        arm_of(node, name, connect_timeout=0.3).connect()


def test_a_rival_is_refused_and_one_that_comes_later_is_a_fault(
    node: Node, start: Callable[..., Any], name: str
) -> None:
    start(name)
    arm = arm_of(node, name)
    arm.connect()
    command = {"piper_ros": "joint_ctrl_single", "agx_arm_ros": "control/joint_states"}[name]
    rival = rclpy.create_node("teleoperation")
    rival.create_publisher(JointState, command, 1)
    eventually(lambda: any("/teleoperation also commands the arm" in fault for fault in arm.feedback().faults))  # type: ignore[union-attr]
    with pytest.raises(WorkFailed, match="/teleoperation also commands"):
        arm.enable()
    arm.close()
    with pytest.raises(WorkFailed, match="/teleoperation also commands"):
        arm_of(node, name, connect_timeout=1.0).connect()
    rival.destroy_node()


def test_the_stock_launch_of_piper_ros_is_refused(node: Node, start: Callable[..., Any]) -> None:
    """It remaps what it obeys to /joint_states, where the arm node publishes what it measures."""
    start("piper_ros", command_topic="joint_states")
    with pytest.raises(WorkFailed, match="takes the measured joints on /joint_states for commands"):
        arm_of(node, "piper_ros", connect_timeout=1.5).connect()


@pytest.mark.parametrize(
    ("name", "parameter", "value", "line"),
    [
        ("piper_ros", "gripper_exist", False, "gripper_exist:=true"),
        ("piper_ros", "gripper_val_mutiple", 2, "gripper_val_mutiple:=1"),
        ("agx_arm_ros", "fast_mode", True, "fast_mode:=false"),
        ("agx_arm_ros", "control_enabled", False, "control_enabled:=true"),
        ("agx_arm_ros", "effector_type", "none", "effector_type:=agx_gripper"),
    ],
)
def test_a_driver_that_is_not_set_up_for_this_is_refused(
    node: Node, start: Callable[..., Any], name: str, parameter: str, value: Any, line: str
) -> None:
    stand_in = start(name)
    stand_in.set_parameters([Parameter(parameter, value=value)])
    with pytest.raises(WorkFailed, match=line):
        arm_of(node, name).connect()


def test_power_that_is_refused_is_a_fault_with_the_drivers_words(node: Node, start: Callable[..., Any]) -> None:
    stand_in = start("agx_arm_ros")
    stand_in.refusal = "Failed to enable Agx_arm"
    with Controlled(arm_of(node, "agx_arm_ros")) as loop:
        loop.ask(lambda controller, now: controller.request_enable(now))
        eventually(lambda: "agx_arm_ros refused: Failed to enable" in loop.latest.reason if loop.latest else False)
        assert state(loop) == "DISABLED"
    assert stand_in.calls == [True]


def test_disabling_reaches_the_driver(node: Node, start: Callable[..., Any], name: str) -> None:
    stand_in = start(name)
    arm = arm_of(node, name)
    arm.connect()
    arm.enable()
    eventually(lambda: stand_in.enabled and arm.feedback().enabled)  # type: ignore[union-attr]
    arm.disable()
    eventually(lambda: not stand_in.enabled and not arm.feedback().enabled)  # type: ignore[union-attr]
    arm.close()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"arm": "ur5"}, "it can be sdk, piper_ros, agx_arm_ros"),
        ({"arm": "piper_ros", "gripper_effort": 4.0}, "takes 0.5 to 3"),
        ({"arm": "agx_arm_ros", "gripper_effort": 0.2}, "takes 0.5 to 3"),
        ({"arm": "agx_arm_ros", "speed_percent": 50}, "its own parameter"),
        ({"arm": "piper_ros", "send_every": 0}, "send_every is 0"),
        ({"arm": "sdk", "can": "x:y"}, "is not one I know"),
    ],
)
def test_what_a_driver_does_not_take_is_refused(node: Node, given: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInput, match=line):
        open_arm(node, {**VALUES, **given}.__getitem__)


def test_a_stand_in_fails_on_the_first_bad_message(node: Node) -> None:
    stand_in = PiperRosStandIn(allowed_rate=100.0, velocity=PIPER_LIMITS.velocity, period=0.01)
    stand_in._on_command(JointState(name=["joint1"], position=[1.0], velocity=[0.0] * 7, effort=[0.0] * 7))
    with pytest.raises(BadMessageError, match="message 0: names"):
        stand_in.sound()
    stand_in.destroy_node()
