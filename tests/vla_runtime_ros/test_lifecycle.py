from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter

from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime_ros.diagnostics import Health, Level
from vla_runtime_ros.lifecycle import ManagedNode
from vla_runtime_ros.params import Parameter

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class Example(ManagedNode):
    """Writes down what happens to it, and fails where it is told to."""

    PARAMETERS = (
        Parameter("speed", 1.0, "Speed.", (0.0, 2.0)),
        Parameter("pace", 1.0, "Pace.", (0.0, 2.0), read_only=False),
        Parameter("weights", [0.5, 0.5], "Weights.", (0.0, 1.0), read_only=False),
    )

    def __init__(self) -> None:
        super().__init__("example")
        self.events: list[str] = []
        self.failing: dict[str, Exception] = {}

    def setup(self) -> None:
        self.events.append("acquire first")
        self.resources.callback(self.events.append, "release first")
        self._fail("setup")
        self.events.append("acquire second")
        self.resources.callback(self.events.append, "release second")

    def start(self) -> None:
        self._fail("start")
        self.events.append("start")

    def stop(self) -> None:
        self.events.append(f"stop: {self.stopped.text}")

    def changed(self, changes: Mapping[str, Any]) -> None:
        if changes.get("pace") == 0.0:
            raise BadInput("pace 0 goes\nnowhere")
        self.events.append(f"changed: {sorted(changes)}")

    def health(self) -> Health:
        return Health(Level.OK, "well", {"speed": self.value("speed")})

    @property
    def state(self) -> str:
        return str(self._state_machine.current_state[1])

    def _fail(self, where: str) -> None:
        if where in self.failing:
            raise self.failing[where]


@pytest.fixture
def node(ros: None) -> Iterator[Example]:
    example = Example()
    yield example
    example.destroy_node()


SET_UP = ["acquire first", "acquire second"]
TORN_DOWN = ["release second", "release first"]


def test_the_whole_way_up_and_down(node: Example) -> None:
    assert [node.trigger_configure(), node.trigger_activate()] == [SUCCESS, SUCCESS]
    assert node.state == "active"
    assert [node.trigger_deactivate(), node.trigger_cleanup()] == [SUCCESS, SUCCESS]
    assert node.state == "unconfigured"
    assert node.events == [*SET_UP, "start", "stop: deactivated", *TORN_DOWN]


def test_it_can_be_configured_again(node: Example) -> None:
    for _ in range(2):
        node.trigger_configure()
        node.trigger_cleanup()
    assert node.events == [*SET_UP, *TORN_DOWN] * 2


def test_shutdown_from_active_stops_first_and_keeps_the_reason(node: Example) -> None:
    node.trigger_configure()
    node.trigger_activate()
    node.close("SIGTERM")
    assert node.state == "finalized"
    assert node.events == [*SET_UP, "start", "stop: SIGTERM", *TORN_DOWN]
    node.close("again")
    assert node.events.count("release first") == 1


def test_an_error_in_setup_fails_the_transition_and_gives_back_what_was_acquired(node: Example) -> None:
    node.failing["setup"] = BadInput("bundle /b has\nno manifest")
    assert node.trigger_configure() == FAILURE
    assert node.state == "unconfigured"
    assert node.events == ["acquire first", "release first"]
    assert node.stopped.text == "bundle /b has no manifest"
    del node.failing["setup"]
    assert node.trigger_configure() == SUCCESS
    assert node.stopped.text is None


def test_an_error_in_start_leaves_the_node_inactive_and_stopped(node: Example) -> None:
    node.trigger_configure()
    node.failing["start"] = BadInput("no")
    assert node.trigger_activate() == FAILURE
    assert node.state == "inactive"
    assert node.events == [*SET_UP, "stop: no"]


def test_what_cannot_be_ended_does_not_keep_the_rest_from_ending(node: Example) -> None:
    def fail() -> None:
        raise WorkFailed("the thread did not end")

    node.trigger_configure()
    node.resources.callback(fail)
    node.trigger_activate()
    node.close("SIGTERM")
    assert node.state == "finalized"
    assert node.events[-2:] == TORN_DOWN


def test_a_defect_tears_everything_down(node: Example) -> None:
    node.failing["setup"] = KeyError("joint7")
    assert node.trigger_configure() == ERROR
    assert node.state == "unconfigured"
    assert node.events == ["acquire first", "release first"]
    assert "defect" in str(node.stopped.text)


def test_halting_from_active_comes_down_to_unconfigured_with_the_first_reason(node: Example) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.trigger_configure()
    node.trigger_activate()
    node.halt("the bus went down")
    node.halt("no feedback")
    for _ in range(20):
        executor.spin_once(timeout_sec=0.1)
        if node.state == "unconfigured":
            break
    assert node.events == [*SET_UP, "start", "stop: the bus went down", *TORN_DOWN]
    assert node.stopped.text == "the bus went down"
    executor.shutdown()


def change(node: Example, **values: Any) -> str:
    """Set parameters together; the reason where that is refused."""
    parameters = [RosParameter(name, value=value) for name, value in values.items()]
    return str(node.set_parameters_atomically(parameters).reason)


def test_parameters_change_all_together_or_not_at_all(node: Example) -> None:
    node.trigger_configure()
    node.events.clear()
    assert change(node, pace=1.5, weights=[0.1, 0.9]) == ""
    assert node.events == ["changed: ['pace', 'weights']"]
    assert (node.value("pace"), list(node.value("weights"))) == (1.5, [0.1, 0.9])
    assert "weights is" in change(node, pace=0.5, weights=[0.1, 1.1])
    assert "expected a list of 2 numbers" in change(node, pace=0.5, weights=[0.1])
    assert "nan" in change(node, pace=float("nan"))
    assert change(node, weights=[0.0, 0.0], pace=0.0) == "pace 0 goes nowhere"
    assert "read-only" in change(node, pace=0.5, speed=0.5)
    assert (node.value("pace"), list(node.value("weights"))) == (1.5, [0.1, 0.9])
    assert node.events == ["changed: ['pace', 'weights']"]


def test_what_changes_while_nothing_is_set_up_is_taken_by_the_next_setup(node: Example) -> None:
    assert change(node, pace=0.5) == ""
    assert "weights is" in change(node, weights=[2.0, 2.0])
    assert node.events == []
    node.trigger_configure()
    assert node.value("pace") == 0.5


def test_diagnostics_say_health_while_configured_and_the_reason_after_a_stop(node: Example) -> None:
    received: list[DiagnosticArray] = []
    listener = rclpy.create_node("listener")
    listener.create_subscription(DiagnosticArray, "/diagnostics", received.append, 10)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(listener)

    def next_status() -> tuple[bytes, str, dict[str, str]]:
        received.clear()
        for _ in range(100):
            executor.spin_once(timeout_sec=0.1)
            if received:
                break
        status = received[-1].status[0]
        return status.level, status.message, {entry.key: entry.value for entry in status.values}

    assert next_status() == (b"\0", "unconfigured", {"lifecycle": "unconfigured"})
    node.trigger_configure()
    assert next_status() == (b"\0", "well", {"lifecycle": "inactive", "speed": "1"})
    node.trigger_cleanup()
    assert next_status() == (b"\0", "cleaned up", {"lifecycle": "unconfigured"})
    node.failing["setup"] = BadInput("no manifest")
    node.trigger_configure()
    assert next_status() == (b"\2", "no manifest", {"lifecycle": "unconfigured"})
    executor.shutdown()
    listener.destroy_node()
