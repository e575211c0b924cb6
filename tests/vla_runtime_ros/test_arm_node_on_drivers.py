"""The arm node, moved by messages alone, on a stand-in of each driver that checks every message it gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime_ros import converters, qos
from vla_runtime_ros.arm_node import ArmNode
from vla_runtime_ros.params import Parameter

from .driver_stand_ins import HOME, AgxArmStandIn, PiperRosStandIn, StandIn, eventually

STAND_INS: dict[str, type[PiperRosStandIn] | type[AgxArmStandIn]] = {
    "piper_ros": PiperRosStandIn,
    "agx_arm_ros": AgxArmStandIn,
}
GOAL = np.array([0.3, 0.8, -0.9, 0.3, -0.2, 0.0, 0.04])
RATE = 100.0


class User:
    """What a user has: services to call, chunks to publish, and the state to read."""

    def __init__(self, arm: ArmNode) -> None:
        self.node: Node = rclpy.create_node("user")
        self.states: list[str] = []
        self._chunks = self.node.create_publisher(JointTrajectory, "policy_node/action_chunk", qos.CHUNK)
        self.node.create_subscription(String, "arm_node/state", lambda m: self.states.append(m.data), qos.STATE)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._executor.add_node(arm)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def call(self, name: str, kind: Any = Trigger, **request: Any) -> Any:
        client: Any = self.node.create_client(kind, f"arm_node/{name}")
        assert client.wait_for_service(10)
        future = client.call_async(kind.Request(**request))
        eventually(future.done)
        return future.result()

    def send(self, stamp: float, start: np.ndarray, goal: np.ndarray) -> None:
        points = start + np.linspace(0, 1, 46)[:, None] * (goal - start)
        self._chunks.publish(converters.trajectory(stamp, JOINT_NAMES, points, 30.0))

    def end(self) -> None:
        self._ending.set()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()

    def _spin(self) -> None:
        while not self._ending.is_set():
            self._executor.spin_once(timeout_sec=0.1)


@pytest.fixture(params=list(STAND_INS))
def stand_in(ros: None, request: pytest.FixtureRequest) -> Iterator[StandIn]:
    made = STAND_INS[request.param](allowed_rate=RATE, velocity=PIPER_LIMITS.velocity, period=1 / RATE)
    made.start()
    yield made
    made.end()
    made.sound()


@pytest.fixture
def start(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., User]]:
    ending: list[Callable[[], None]] = []

    def arm_node(**given: Any) -> User:
        driver = next(name for name, kind in STAND_INS.items() if isinstance(stand_in, kind))
        given = {"arm": driver, "dry_run": False, "watchdogs": [""], "control_rate": RATE, "chunk_timeout": 3.0} | given
        table = tuple(
            Parameter(p.name, given.get(p.name, p.default), p.description, p.span, p.read_only)
            for p in ArmNode.PARAMETERS
        )
        monkeypatch.setattr(ArmNode, "PARAMETERS", table)
        node = ArmNode()
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.stopped.text
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        user = User(node)
        ending.extend([user.end, lambda: node.close("test ends"), node.destroy_node])
        return user

    yield arm_node
    for step in ending:
        step()


def test_enabled_and_resumed_it_follows_chunks_to_their_end(start: Callable[..., User], stand_in: StandIn) -> None:
    user = start()
    assert user.call("enable").success
    eventually(lambda: any(state.startswith("HOLDING") for state in user.states))
    assert user.call("resume").success
    user.send(time.time(), np.array(HOME), GOAL)
    eventually(lambda: np.abs(stand_in.plant.positions - GOAL).max() < 0.02)
    assert user.call("hold").success
    stand_in.sound()


def test_a_dry_run_sends_the_driver_nothing(start: Callable[..., User], stand_in: StandIn) -> None:
    user = start(dry_run=True)
    assert user.call("enable").success
    eventually(lambda: any(state.startswith("HOLDING") for state in user.states))
    assert user.call("resume").success
    user.send(time.time(), np.array(HOME), GOAL)
    eventually(lambda: any(state.startswith("TRACKING") for state in user.states))
    assert user.call("disable", SetBool, data=True).success
    assert (stand_in.commands, stand_in.enabled) == ([], False)
    np.testing.assert_array_equal(stand_in.plant.positions, HOME)


def test_a_driver_that_falls_silent_stops_the_arm(start: Callable[..., User], stand_in: StandIn) -> None:
    user = start()
    user.call("enable")
    eventually(lambda: any(state.startswith("HOLDING") for state in user.states))
    stand_in.mute = True
    eventually(lambda: "arm feedback" in user.states[-1])
    sent = len(stand_in.commands)
    time.sleep(0.3)
    assert len(stand_in.commands) <= sent + 1
    assert stand_in.enabled
