"""The node in this process, with a simulated arm on a virtual CAN bus or with none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from std_srvs.srv import SetBool, Trigger

from vla_runtime.arms.can_bus import open_bus
from vla_runtime.arms.plant import KinematicPlant
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime_ros.arm_node import ArmNode
from vla_runtime_ros.params import Parameter

MOTOR_POWER, GRIPPER_TARGET = 0x471, 0x159


@pytest.fixture
def make(ros: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ArmNode]]:
    nodes: list[ArmNode] = []

    def arm_node(**given: Any) -> ArmNode:
        table = tuple(
            Parameter(p.name, given.get(p.name, p.default), p.description, p.span) for p in ArmNode.PARAMETERS
        )
        monkeypatch.setattr(ArmNode, "PARAMETERS", table)
        nodes.append(ArmNode())
        return nodes[-1]

    yield arm_node
    for node in nodes:
        node.close("test ends")
        node.destroy_node()


@pytest.fixture
def simulated() -> Iterator[SimulatedPiper]:
    bus = open_bus("virtual:arm-node-test")
    arm = SimulatedPiper(bus, KinematicPlant([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03], 3.0))
    stop = threading.Event()
    thread = threading.Thread(target=arm.run, args=(stop,))
    thread.start()
    yield arm
    stop.set()
    thread.join()
    bus.shutdown()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"can": "virtual:nobody", "connect_timeout": 0.2}, "said nothing within 0.2 s"),
        ({"can": "can:1:2"}, "is not one I know"),
        ({"arm": "piper_ros"}, "not available yet"),
        ({"limits.upper": [3.0, 3.14, 0.0, 1.745, 1.22, 1.745, 0.07]}, "joint1: upper 3 rad is beyond"),
        ({"park_positions": [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]}, "park_positions of joint3"),
    ],
)
def test_what_does_not_fit_fails_the_transition_with_one_line(
    make: Callable[..., ArmNode], given: dict[str, Any], line: str
) -> None:
    node = make(**given)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert line in str(node.stopped.text)


def test_configured_it_only_listens(make: Callable[..., ArmNode], simulated: SimulatedPiper) -> None:
    node = make(can="virtual:arm-node-test")
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    time.sleep(0.1)
    assert GRIPPER_TARGET not in simulated.audit.frames
    assert "activate it first" in node.on_request(Trigger.Response(), lambda c, now: c.request_enable(now)).message


def test_ending_while_it_holds_sends_nothing_more_and_leaves_the_power_on(
    make: Callable[..., ArmNode], simulated: SimulatedPiper
) -> None:
    node = make(can="virtual:arm-node-test")
    node.trigger_configure()
    node.trigger_activate()
    assert node.on_request(Trigger.Response(), lambda c, now: c.request_enable(now)).success
    eventually(lambda: node.health().message == "HOLDING: enabled")
    refused = node.on_disable(SetBool.Request(data=False), SetBool.Response())
    assert (refused.success, "park it first" in refused.message) == (False, True)
    eventually(lambda: simulated.audit.frames[GRIPPER_TARGET] > 10)
    node.close("SIGTERM")
    time.sleep(0.1)
    frames = simulated.audit.frames.copy()
    time.sleep(0.2)
    assert simulated.audit.frames == frames
    assert frames[MOTOR_POWER] == 6  # one per joint, to enable
    assert simulated.audit.outside_limits == 0
