"""The node in this process over real DDS, with a simulated arm on a virtual CAN bus or with none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.safety.controller import ArmController
from vla_runtime_ros import converters, heartbeat, qos, replayed
from vla_runtime_ros.arm_node import ArmNode

CONTROL_MODE, JOINT_TARGET, GRIPPER_TARGET, MOTOR_POWER = 0x151, 0x155, 0x159, 0x471
START = np.array([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03])
AWAY = START + np.array([0.2, 0.1, -0.1, 0.1, 0.1, 0.1, 0.0])

PATIENT: dict[str, Any] = {
    "dry_run": False,
    "feedback_timeout": 1.0,
    "overrun_timeout": 1.0,
    "max_gap": 5.0,
    "chunk_timeout": 5.0,
    "watchdogs": ["policy=10.0"],
}
"""A busy machine that runs arm, policy and node in one process is none of the things these tests are about."""

Simulated = tuple[str, SimulatedPiper]
Wait = Callable[[Callable[[], bool]], None]


class Policy:
    """Publishes chunks that ask for one posture, and heartbeats, from a node of its own."""

    def __init__(self, name: str, spin: Callable[[Node], None]) -> None:
        self.node = rclpy.create_node(name)
        self._chunks = self.node.create_publisher(converters.JointTrajectory, "policy_node/action_chunk", qos.CHUNK)
        self._beats = self.node.create_publisher(heartbeat.DiagnosticArray, "policy_node/heartbeat", qos.HEARTBEAT)
        self.target: np.ndarray | None = None
        self.beating = True
        self.replaying = False
        self.node.create_timer(0.05, self._publish)
        spin(self.node)

    def _publish(self) -> None:
        now = time.time()
        if self.beating:
            self._beats.publish(heartbeat.message(self.node.get_name(), now, "answering", {"side": now}))
        if self.target is None:
            return
        message = converters.trajectory(now, JOINT_NAMES, np.tile(self.target, (20, 1)), 10.0)
        if self.replaying:
            message.header.frame_id = replayed.mark("")
        self._chunks.publish(message)


def granted(node: ArmNode, request: Any) -> None:
    answer = node.on_request(Trigger.Response(), request)
    assert answer.success, answer.message


def activated(node: ArmNode) -> ArmNode:
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.stopped.text
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    return node


def resumed(node: ArmNode, eventually: Wait) -> ArmNode:
    granted(node, ArmController.request_enable)
    eventually(lambda: node.health().message == "HOLDING: enabled")
    granted(node, ArmController.request_resume)
    return node


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"can": "virtual:nobody", "connect_timeout": 0.2}, "said nothing within 0.2 s"),
        ({"can": "can:1:2"}, "is not one I know"),
        ({"arm": "ur5"}, "it can be sdk, piper_ros, agx_arm_ros"),
        ({"on_exit": "drop"}, "it can be hold or park"),
        ({"watchdogs": ["policy"]}, "'policy' is not NAME=VALUE"),
        ({"watchdogs": ["policy=soon"]}, "the timeout of policy is 'soon'"),
        ({"watchdogs": ["policy=0.0"]}, "the timeout of policy is 0.0 s, expected 0.02 to 60 s"),
        ({"chunk_takeover": "leap"}, "chunk takeover 'leap' is unknown"),
        ({"gripper_effort": 4.0}, "gripper_effort 4 N·m is outside 0.5 … 3"),
        ({"limits.upper": [3.0, 3.14, 0.0, 1.745, 1.22, 1.745, 0.07]}, "joint1: upper 3 rad is beyond"),
        ({"limits.jerk": [300.0] * 6 + [20.0]}, "joint1: jerk 300 rad/s³ is beyond"),
        ({"park_positions": [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]}, "park_positions of joint3"),
        ({"workspace.lower": [0.5, -0.8, -0.1], "workspace.upper": [0.4, 0.8, 1.0]}, "workspace x from 0.5 to 0.4"),
    ],
)
def test_what_does_not_fit_fails_the_transition_with_one_line(
    make: Callable[..., ArmNode], given: dict[str, Any], line: str
) -> None:
    node = make(ArmNode, **given)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert line in str(node.stopped.text)


def test_configured_it_only_listens(make: Callable[..., ArmNode], simulated: Simulated) -> None:
    node = make(ArmNode, can=simulated[0], **PATIENT)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    time.sleep(0.1)
    assert GRIPPER_TARGET not in simulated[1].audit.frames
    assert "activate it first" in node.on_request(Trigger.Response(), ArmController.request_enable).message


def test_ending_while_it_holds_sends_nothing_more_and_leaves_the_power_on(
    make: Callable[..., ArmNode], simulated: Simulated, eventually: Wait
) -> None:
    audit = simulated[1].audit
    node = activated(make(ArmNode, can=simulated[0], **PATIENT))
    granted(node, ArmController.request_enable)
    eventually(lambda: node.health().message == "HOLDING: enabled")
    refused = node.on_disable(SetBool.Request(data=False), SetBool.Response())
    assert (refused.success, "park it first" in refused.message) == (False, True)
    eventually(lambda: audit.frames[GRIPPER_TARGET] > 10)
    node.close("SIGTERM")
    time.sleep(0.1)
    frames = audit.frames.copy()
    time.sleep(0.2)
    assert audit.frames == frames
    assert frames[MOTOR_POWER] == 6  # one per joint, to enable
    assert audit.outside_limits == 0


def test_by_default_everything_runs_and_nothing_is_sent(
    make: Callable[..., ArmNode], simulated: Simulated, spin: Callable[[Node], None], eventually: Wait
) -> None:
    name, arm = simulated
    node = activated(make(ArmNode, can=name, **PATIENT | {"dry_run": True}))
    spin(node)
    policy = Policy("policy", spin)
    policy.target = AWAY
    commands: list[np.ndarray] = []
    policy.node.create_subscription(
        converters.JointState, "arm_node/command", lambda message: commands.append(np.array(message.position)), 100
    )
    measured: list[np.ndarray] = []
    policy.node.create_subscription(
        converters.JointState, "joint_states", lambda message: measured.append(np.array(message.position)), 100
    )
    resumed(node, eventually)
    eventually(lambda: node.health().message == "TRACKING: following chunks")
    eventually(lambda: bool(commands) and bool(np.allclose(commands[-1], AWAY, atol=1e-3)))
    assert node.health().values["dry_run"] == "true"
    np.testing.assert_allclose(measured[-1], START, atol=1e-4)  # what is measured is the real arm
    answer = node.on_disable(SetBool.Request(data=True), SetBool.Response())
    assert "dry run" in answer.message
    node.close("SIGTERM")
    assert not {CONTROL_MODE, JOINT_TARGET, GRIPPER_TARGET, MOTOR_POWER} & set(arm.audit.frames)
    np.testing.assert_allclose(arm._plant.positions, START)
    policy.node.destroy_node()


def test_replayed_observations_move_no_arm(
    make: Callable[..., ArmNode], simulated: Simulated, spin: Callable[[Node], None], eventually: Wait
) -> None:
    node = activated(make(ArmNode, can=simulated[0], **PATIENT))
    spin(node)
    policy = Policy("policy", spin)
    policy.replaying = True
    policy.target = AWAY
    resumed(node, eventually)
    eventually(lambda: "answers replayed observations" in str(node.health().values["chunk_refused_because"]))
    time.sleep(0.2)
    assert node.health().message == "HOLDING: resumed, waiting for a chunk"
    policy.replaying = False
    eventually(lambda: node.health().message == "TRACKING: following chunks")
    policy.node.destroy_node()


def test_of_two_policies_one_is_followed_and_the_other_named(
    make: Callable[..., ArmNode], simulated: Simulated, spin: Callable[[Node], None], eventually: Wait
) -> None:
    node = activated(make(ArmNode, can=simulated[0], **PATIENT, publisher_timeout=0.5))
    spin(node)
    first, second = Policy("first", spin), Policy("second", spin)
    first.target = START
    resumed(node, eventually)
    eventually(lambda: node.health().message == "TRACKING: following chunks")
    second.target = AWAY
    eventually(lambda: "/second" in str(node.health().values["chunks_refused_from"]))
    assert str(node.health().values["chunks_from"]).startswith("/first")
    time.sleep(0.5)
    np.testing.assert_allclose(simulated[1]._plant.positions, START, atol=1e-3)
    first.target = None
    eventually(lambda: str(node.health().values["chunks_from"]).startswith("/second"))
    eventually(lambda: bool(np.allclose(simulated[1]._plant.positions, AWAY, atol=5e-3)))
    for policy in (first, second):
        policy.node.destroy_node()


def test_a_policy_without_a_heartbeat_is_not_followed(
    make: Callable[..., ArmNode], simulated: Simulated, spin: Callable[[Node], None], eventually: Wait
) -> None:
    node = activated(make(ArmNode, can=simulated[0], **PATIENT | {"watchdogs": ["policy=1.0", "side=1.0"]}))
    spin(node)
    policy = Policy("policy", spin)
    policy.target = START
    resumed(node, eventually)
    eventually(lambda: node.health().message == "TRACKING: following chunks")
    assert float(node.health().values["watchdog/side_age_s"]) < 5.0
    policy.beating = False
    eventually(lambda: node.health().message.startswith("HOLDING: policy is 1."))
    history = [str(node.health().values[f"history/{place}"]) for place in (0, 1)]
    assert "HOLDING: policy is 1." in history[0]
    assert "TRACKING: following chunks" in history[1]
    policy.beating = True
    eventually(lambda: node.health().message == "TRACKING: following chunks")
    policy.node.destroy_node()


def test_ending_it_parks_where_asked_and_a_second_signal_ends_that(
    make: Callable[..., ArmNode], simulated: Simulated, eventually: Wait
) -> None:
    name, arm = simulated
    parked = [0.1, 0.9, -0.9, 0.1, 0.1, 0.1, 0.03]
    node = activated(make(ArmNode, can=name, **PATIENT, on_exit="park", park_positions=parked))
    granted(node, ArmController.request_enable)
    eventually(lambda: node.health().message == "HOLDING: enabled")
    node.close("SIGTERM")
    np.testing.assert_allclose(arm._plant.positions, parked, atol=1e-4)
    assert arm.audit.frames[MOTOR_POWER] == 6  # it was parked, not dropped


def test_in_a_hurry_it_holds_on_the_way_to_its_park_position(
    make: Callable[..., ArmNode], simulated: Simulated, eventually: Wait
) -> None:
    name, arm = simulated
    node = activated(make(ArmNode, can=name, **PATIENT, on_exit="park"))
    granted(node, ArmController.request_enable)
    eventually(lambda: node.health().message == "HOLDING: enabled")
    second = threading.Timer(0.3, node.hurry.set)
    second.start()
    node.close("SIGTERM")
    second.join()
    rested = arm._plant.positions
    assert np.abs(rested[:6]).max() > 0.5
    assert np.abs(rested - START).max() > 0.01  # it was on its way
    time.sleep(0.2)
    np.testing.assert_array_equal(arm._plant.positions, rested)


def test_deactivated_it_comes_to_rest_before_it_falls_silent(
    make: Callable[..., ArmNode], simulated: Simulated, spin: Callable[[Node], None], eventually: Wait
) -> None:
    name, arm = simulated
    node = activated(make(ArmNode, can=name, **PATIENT))
    spin(node)
    policy = Policy("policy", spin)
    policy.target = START + np.array([1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    resumed(node, eventually)
    eventually(lambda: arm._plant.positions[0] > 0.3)  # at full speed
    node.trigger_deactivate()
    last = node._loop.latest
    assert last is not None
    assert last.command is not None
    np.testing.assert_allclose(arm._plant.positions, last.command, atol=1e-4)
    assert last.reason == "deactivated"
    assert node._loop.resting
    policy.node.destroy_node()
