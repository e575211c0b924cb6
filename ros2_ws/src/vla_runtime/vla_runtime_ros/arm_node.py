"""The node that moves the arm: it takes chunks, and stays safe whatever the policy does."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.piper import Piper
from vla_runtime.errors import BadInput
from vla_runtime.safety.controller import ArmController
from vla_runtime_ros import arm_parameters, converters, qos, running
from vla_runtime_ros.control_loop import ControlLoop, Request
from vla_runtime_ros.diagnostics import Health, Level, durations
from vla_runtime_ros.lifecycle import ManagedNode
from vla_runtime_ros.pace import Pace
from vla_runtime_ros.rate import Rate
from vla_runtime_ros.realtime import ask_for_fifo
from vla_runtime_ros.worker import Worker

_ANSWER_WITHIN = 1.0  # [s]; many control periods
_END_WITHIN = 5.0  # [s]


class ArmNode(ManagedNode):
    """Configured, it is connected and publishes what the arm measures; active, it controls the arm.

    Leaving active, or ending, it stops sending: the arm holds its last target. It never cuts power unasked.
    """

    PARAMETERS = arm_parameters.TABLE

    def __init__(self) -> None:
        super().__init__("arm_node")

    def setup(self) -> None:
        """Connect the arm; raises `BadInput` for parameters that do not fit, `WorkFailed` for a silent arm."""
        arm_parameters.check_driver(self.value("arm"))
        controller = ArmController(arm_parameters.settings(self.value), arm_parameters.limits(self.value))
        self._arm = Piper(
            self.value("can"),
            speed_percent=self.value("speed_percent"),
            gripper_effort=self.value("gripper_effort"),
            connect_timeout=self.value("connect_timeout"),
        )
        self._loop = ControlLoop(self._arm, controller, Pace(self.value("control_rate")), time.time)
        self._chunk_rate = Rate()
        self._unreadable_chunk: str | None = None
        self._measured = 0.0
        self._decimation = 0
        self._states = self.publisher(String, "~/state", qos.STATE)
        self._joint_states = self.publisher(JointState, self.value("joint_states_topic"), qos.JOINT_STATE_SOURCE)
        self._commands = self.publisher(JointState, "~/command", qos.JOINT_STATE_SOURCE)
        worker = Worker("control", self._control, lambda error: self.halt(f"the control thread failed: {error!r}"))
        self.resources.callback(worker.stop, _END_WITHIN)
        self._loop.connected.result()
        self.service(Trigger, "~/enable", lambda _, answer: self.on_request(answer, ArmController.request_enable))
        self.service(Trigger, "~/hold", lambda _, answer: self.on_request(answer, _hold("hold requested")))
        self.service(Trigger, "~/resume", lambda _, answer: self.on_request(answer, ArmController.request_resume))
        self.service(Trigger, "~/park", lambda _, answer: self.on_request(answer, ArmController.request_park))
        self.service(SetBool, "~/disable", self.on_disable)
        self.subscription(JointTrajectory, self.value("chunk_topic"), self._on_chunk, qos.CHUNK)
        self.timer(1.0 / self.value("joint_states_rate"), self._publish)

    def start(self) -> None:
        """Control the arm from now on."""
        self._loop.ticking.set()

    def stop(self) -> None:
        """Send nothing more; what was being followed is not taken up again unasked."""
        reason = self.stopped.text or "stopped"
        self._loop.ask(_hold(reason))
        self._loop.ticking.clear()
        self._states.publish(String(data=f"INACTIVE: {reason}"))

    def health(self) -> Health:
        """State and reason, rates, ages, latencies, and what the safety layer did."""
        tick, feedback, now = self._loop.latest, self._arm.feedback(), time.time()
        faults = () if feedback is None else feedback.faults
        refused = self._unreadable_chunk or self._loop.refused_chunk
        values: dict[str, float | int | str] = {
            "chunk_rate_hz": self._chunk_rate.per_second(now),
            "chunk_refused_because": refused or "",
            "feedback_age_s": "none yet" if feedback is None else now - feedback.stamp,
            "faults": ", ".join(faults),
            "commands_sent": self._loop.commands,
            **durations(self._loop.spans),
            **{f"interventions/{kind}": n for kind, n in self._loop.interventions.items()},
        }
        if tick is None or not self._loop.ticking.is_set():
            return Health(Level.ERROR if faults else Level.OK, "connected, not active", values)
        values |= {"state": tick.state.name, "reason": tick.reason, "needs_resume": str(tick.needs_resume).lower()}
        worried = tick.needs_resume or refused is not None
        level = Level.ERROR if faults or feedback is None else Level.WARN if worried else Level.OK
        return Health(level, f"{tick.state.name}: {tick.reason}", values)

    def _control(self, stopping: threading.Event) -> None:
        priority = self.value("realtime_priority")
        denied = ask_for_fifo(priority) if priority else None
        if denied is not None:
            self.get_logger().warning(denied)
        self._loop.run(stopping)

    def _on_chunk(self, message: JointTrajectory) -> None:
        self._chunk_rate.tick(time.time())
        try:
            self._loop.offer(converters.chunk(message))
            self._unreadable_chunk = None
        except BadInput as error:
            self._unreadable_chunk = str(error)
            self.get_logger().error(f"chunk dropped: {error}", throttle_duration_sec=5.0)

    def on_request(self, answer: Any, request: Request) -> Any:
        """Put a request to the controller; the answer says whether it was granted, and why not."""
        if not self._loop.ticking.is_set():
            answer.success, answer.message = False, "the arm node is not active: activate it first"
            return answer
        refusal = self._loop.ask(request).result(_ANSWER_WITHIN)
        answer.success, answer.message = refusal is None, refusal or "granted"
        return answer

    def on_disable(self, asked: SetBool.Request, answer: SetBool.Response) -> SetBool.Response:
        """Cut motor power: of an arm at its park position, or anywhere where ``data`` is true. THE ARM DROPS."""
        return self.on_request(answer, lambda controller, now: controller.request_disable(now, force=asked.data))

    def _publish(self) -> None:
        feedback = self._arm.feedback()
        if feedback is not None and feedback.stamp > self._measured:
            self._measured = feedback.stamp
            self._joint_states.publish(
                converters.joint_state(feedback.stamp, JOINT_NAMES, feedback.positions, feedback.velocities)
            )
        while self._loop.sent:
            sent, command = self._loop.sent.popleft()
            if self._decimation % self.value("command_decimation") == 0:
                self._commands.publish(converters.joint_state(sent, JOINT_NAMES, command))
            self._decimation += 1
        while self._loop.changes:
            state, reason = self._loop.changes.popleft()
            self.get_logger().info(f"{state}: {reason}")
            self._states.publish(String(data=f"{state}: {reason}"))


def _hold(reason: str) -> Request:
    return lambda controller, now: controller.request_hold(now, reason)


def main() -> None:
    """The executable."""
    sys.exit(running.main(ArmNode))


if __name__ == "__main__":
    main()
