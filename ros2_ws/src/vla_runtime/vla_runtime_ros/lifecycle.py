"""The one lifecycle of every node: it owns the transitions and the single way down."""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter

from vla_runtime.errors import BadInput, VlaError
from vla_runtime_ros import diagnostics, params, qos
from vla_runtime_ros.diagnostics import Health, Level
from vla_runtime_ros.params import Parameter
from vla_runtime_ros.stop_reason import StopReason

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_DEACTIVATED, _CLEANED_UP, _SHUT_DOWN = _AS_ASKED = ("deactivated", "cleaned up", "shut down")


class ManagedNode(LifecycleNode):
    """A lifecycle node whose subclass writes only what it acquires and what it does while active.

    - configure calls ``setup``; whatever it acquires it enters into ``resources``, which cleanup, shutdown and every
      error unwind in reverse order, after a half-finished setup too;
    - activate calls ``start``, deactivate calls ``stop``; ``stop`` also comes before every other way down from active;
    - a `VlaError` in ``setup`` or ``start`` fails the transition with its one line in the log;
    - parameters that are not read-only change all together or not at all: what does not fit its description is refused
      here, what does not fit otherwise by ``changed``;
    - ``halt`` brings the node down to unconfigured from any thread, and records why: the first reason is kept.

    ending: the process is about to end; ``hurry`` is set when whoever ends it will not wait for a graceful end.
    """

    PARAMETERS: tuple[Parameter, ...] = ()
    COMMON = (Parameter("diagnostics_rate", 1.0, "Diagnostics published per second [Hz].", (0.1, 10.0)),)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        params.declare(self, (*self.COMMON, *self.PARAMETERS))
        self.resources = contextlib.ExitStack()
        self.stopped = StopReason()
        self.ending = False
        self.hurry = threading.Event()
        self._running = False
        self.add_on_set_parameters_callback(self._judge_change)
        self._halting = self.create_guard_condition(self._come_down)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self.create_timer(1.0 / self.value("diagnostics_rate"), self._publish_health)

    # What a subclass writes.

    def setup(self) -> None:
        """Acquire everything; enter what must be given back into ``self.resources``."""

    def start(self) -> None:
        """Begin the work of the active state."""

    def stop(self) -> None:
        """End the work of the active state."""

    def health(self) -> Health:
        """The health of the configured node."""
        return Health(Level.OK, "configured")

    def changed(self, changes: Mapping[str, Any]) -> None:
        """Take parameters that change while the node is configured, by name; raises `BadInput` to refuse them all."""

    # What a subclass uses.

    def value(self, name: str) -> Any:
        """The value of a declared parameter."""
        return self.get_parameter(name).value

    def publisher(self, message_type: Any, topic: str, profile: Any) -> Any:
        """A publisher that lives until teardown."""
        entity = self.create_publisher(message_type, topic, profile)
        self.resources.callback(self.destroy_publisher, entity)
        return entity

    def subscription(self, message_type: Any, topic: str, callback: Callable[..., None], profile: Any) -> None:
        """A subscription that lives until teardown; a callback with two arguments gets the message's info too."""
        entity = self.create_subscription(message_type, topic, callback, profile)
        self.resources.callback(self.destroy_subscription, entity)

    def service(self, service_type: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """A service that lives until teardown."""
        entity = self.create_service(service_type, name, callback)
        self.resources.callback(self.destroy_service, entity)

    def timer(self, period: float, callback: Callable[[], None]) -> None:
        """A timer of ``period`` in [s] that lives until teardown."""
        entity = self.create_timer(period, callback)
        self.resources.callback(self.destroy_timer, entity)

    def halt(self, reason: str) -> None:
        """Bring the node down to unconfigured because of ``reason``. Any thread."""
        if self.stopped.give(reason):
            self.get_logger().error(f"stopping: {reason}")
        self._halting.trigger()

    def close(self, reason: str) -> None:
        """The process ends: go down from whatever state, through the same teardown as ever."""
        self.ending = True
        self.stopped.give(reason)
        if self._state_machine.current_state[1] in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()

    # The transitions.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unconfigured → inactive."""
        self.stopped.clear()
        return self._enter(self.setup, "configure")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive → active."""
        self.stopped.clear()
        outcome = self._enter(self.start, "activate")
        self._running = outcome == _SUCCESS
        return outcome

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Active → inactive."""
        self._leave_active(_DEACTIVATED)
        return _SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Inactive → unconfigured."""
        self._teardown(_CLEANED_UP)
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Any state → finalized."""
        self._teardown(_SHUT_DOWN)
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition raised: back to unconfigured."""
        self._teardown("an error in a transition")
        return _SUCCESS

    def _enter(self, step: Callable[[], None], transition: str) -> TransitionCallbackReturn:
        try:
            step()
        except VlaError as error:
            reason = " ".join(str(error).split())
            self.get_logger().error(f"{transition} failed: {reason}")
            self.stopped.give(reason)
            self._finish(self.resources.close if transition == "configure" else self.stop)
            return _FAILURE
        except Exception:  # rclpy drops what a transition raises without a word
            self.get_logger().fatal(f"{transition} failed:\n{traceback.format_exc()}")
            self.stopped.give(f"a defect in {transition}, see the log")
            raise
        return _SUCCESS

    def _leave_active(self, reason: str) -> None:
        if not self._running:
            return
        self._running = False
        self.stopped.give(reason)
        self._finish(self.stop)
        self.get_logger().info(f"stopped: {self.stopped.text}")

    def _teardown(self, reason: str) -> None:
        self._leave_active(reason)
        self.stopped.give(reason)
        self._finish(self.resources.close)

    def _finish(self, step: Callable[[], None]) -> None:
        """The way down goes on: what could not be ended is said, and the rest is ended."""
        try:
            step()
        except VlaError as error:
            self.get_logger().error(str(error))

    def _judge_change(self, parameters: list[RosParameter]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in parameters}
        try:
            params.check_change((*self.COMMON, *self.PARAMETERS), changes)
            if self._state_machine.current_state[1] in ("inactive", "active"):
                self.changed(changes)
        except BadInput as error:
            return SetParametersResult(successful=False, reason=" ".join(str(error).split()))
        return SetParametersResult(successful=True)

    def _come_down(self) -> None:
        if self._state_machine.current_state[1] == "active":
            self.trigger_deactivate()
        if self._state_machine.current_state[1] == "inactive":
            self.trigger_cleanup()

    def _publish_health(self) -> None:
        state = self._state_machine.current_state[1]
        if state in ("active", "inactive"):
            health = self.health()
        else:
            reason = self.stopped.text
            health = Health(Level.OK if reason is None or reason in _AS_ASKED else Level.ERROR, reason or state)
        values = {"lifecycle": state, **health.values}
        name = self.get_fully_qualified_name()
        self._diagnostics.publish(diagnostics.message(name, time.time(), Health(health.level, health.message, values)))
