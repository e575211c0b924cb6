"""The node that moves the arm: it takes chunks, and stays safe whatever the policy does."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput
from vla_runtime.safety.controller import ArmController
from vla_runtime.safety.limits import check_gripper_effort
from vla_runtime.safety.states import ArmState
from vla_runtime_ros import arm_choice, arm_parameters, converters, heartbeat, qos, replayed, running
from vla_runtime_ros.arm_health import arm_health
from vla_runtime_ros.chunk_source import ChunkSource
from vla_runtime_ros.control_loop import ControlLoop, Request
from vla_runtime_ros.diagnostics import Health
from vla_runtime_ros.dry_run import DryRunArm
from vla_runtime_ros.lifecycle import ManagedNode
from vla_runtime_ros.pace import Pace
from vla_runtime_ros.publishers import Publishers
from vla_runtime_ros.rate import Rate
from vla_runtime_ros.realtime import (
    ask_for_fifo,
    ask_for_fifo_everywhere,
    leave_fifo_everywhere,
    lock_memory,
    sleep_on_time,
)
from vla_runtime_ros.worker import Worker

_ANSWER_WITHIN = 1.0  # [s]; many control periods
_END_WITHIN = 5.0  # [s]
_REST_WITHIN = 2.0  # [s]; the longest that braking from the hardware's limits takes
_LOOK_PERIOD = 0.02  # [s]


class ArmNode(ManagedNode):
    """Configured, it is connected and publishes what the arm measures; active, it controls the arm.

    Leaving active it brakes the arm to rest and sends no more: the arm holds its last target. Ending, it may park the
    arm before. It never cuts power unasked. In a dry run (`vla_runtime_ros.dry_run`) it only listens to the arm.
    """

    PARAMETERS = arm_parameters.TABLE

    def __init__(self) -> None:
        super().__init__("arm_node")

    def setup(self) -> None:
        """Connect the arm; raises `BadInput` for parameters that do not fit, `WorkFailed` for a silent arm."""
        self._parks = arm_parameters.parks_on_exit(self.value)
        self._settings = arm_parameters.settings(self.value)
        limits, workspace = arm_parameters.limits(self.value), arm_parameters.workspace(self.value)
        controller = ArmController(self._settings, limits, workspace)
        check_gripper_effort(self.value("gripper_effort"))
        self._arm = arm_choice.open_arm(self, self.value)
        self._dry_run = bool(self.value("dry_run"))
        obeying = DryRunArm(self._arm) if self._dry_run else self._arm
        self._loop = ControlLoop(obeying, controller, Pace(self.value("control_rate"), sleep=sleep_on_time), time.time)
        self._chunk_rate = Rate()
        self._source = ChunkSource(self.value("publisher_timeout"))
        self._identities = Publishers(self, self.value("chunk_topic"))
        self._refused_chunk: str | None = None
        self._signs: dict[str, float] = {}
        self._measured = 0.0
        self._decimation = 0
        self._states = self.publisher(String, "~/state", qos.STATE)
        self._joint_states = self.publisher(JointState, self.value("joint_states_topic"), qos.JOINT_STATE_SOURCE)
        self._commands = self.publisher(JointState, "~/command", qos.JOINT_STATE_SOURCE)
        self._warn(lock_memory() if self.value("lock_memory") else None)
        if self.value("realtime_priority"):
            ask_for_fifo_everywhere(max(1, self.value("realtime_priority") - 1))  # refused, the control thread warns
            self.resources.callback(leave_fifo_everywhere)
        worker = Worker("control", self._control, lambda error: self.halt(f"the control thread failed: {error!r}"))
        self.resources.callback(worker.stop, _END_WITHIN)
        self._loop.connected.result()
        for note in self._arm.notes:
            self.get_logger().warning(note)
        self._warn("dry run: the arm is not moved; to move it, set dry_run:=false" if self._dry_run else None)
        self.service(Trigger, "~/enable", lambda _, answer: self.on_request(answer, ArmController.request_enable))
        self.service(Trigger, "~/hold", lambda _, answer: self.on_request(answer, _hold("hold requested")))
        self.service(Trigger, "~/resume", lambda _, answer: self.on_request(answer, ArmController.request_resume))
        self.service(Trigger, "~/park", lambda _, answer: self.on_request(answer, ArmController.request_park))
        self.service(SetBool, "~/disable", self.on_disable)
        self.subscription(JointTrajectory, self.value("chunk_topic"), self._on_chunk, qos.CHUNK)
        self.subscription(DiagnosticArray, self.value("heartbeat_topic"), self._on_heartbeat, qos.HEARTBEAT)
        self.timer(1.0 / self.value("joint_states_rate"), self._publish)

    def start(self) -> None:
        """Control the arm from now on."""
        self._loop.ticking.set()

    def stop(self) -> None:
        """Bring the arm to rest, then send nothing more; nothing is followed again unasked."""
        reason = self.stopped.text or "stopped"
        if self._loop.ticking.is_set():
            if self.ending and self._parks and not self.hurry.is_set():
                self._park()
            self._loop.ask(_hold(reason))
            self._wait(lambda: self._loop.resting, _REST_WITHIN)
        self._loop.ticking.clear()
        self._publish()
        self._states.publish(String(data=f"INACTIVE: {reason}"))

    def health(self) -> Health:
        """State and reason, rates, ages, latencies, and what the safety layer did."""
        now = time.time()
        figures: dict[str, float | int | str] = {
            "dry_run": str(self._dry_run).lower(),
            "chunk_rate_hz": self._chunk_rate.per_second(now),
            "chunks_from": self._source.followed or "nobody yet",
            "chunks_refused_from": ", ".join(self._source.rivals(now)),
            **{
                f"watchdog/{name}_age_s": now - self._signs[name] if name in self._signs else "none yet"
                for name in self._settings.watchdogs
            },
        }
        refused = self._refused_chunk or self._loop.refused_chunk
        return arm_health(self._loop, self._arm.feedback(), refused, now, figures)

    def _control(self, stopping: threading.Event) -> None:
        priority = self.value("realtime_priority")
        self._warn(ask_for_fifo(priority) if priority else None)
        self._loop.run(stopping)

    def _warn(self, what: str | None) -> None:
        if what is not None:
            self.get_logger().warning(what)

    def _on_chunk(self, message: JointTrajectory, info: dict[str, Any]) -> None:
        now = time.time()
        self._chunk_rate.tick(now)
        try:
            self._refused_chunk = self._not_for_this_arm(message, info, now)
            if self._refused_chunk is None:
                self._loop.offer(converters.chunk(message))
        except BadInput as error:
            self._refused_chunk = str(error)
        if self._refused_chunk is not None:
            self.get_logger().error(f"chunk dropped: {self._refused_chunk}", throttle_duration_sec=5.0)

    def _not_for_this_arm(self, message: JointTrajectory, info: dict[str, Any], now: float) -> str | None:
        if replayed.marked(message.header.frame_id) and not self._dry_run:
            return "it answers replayed observations, which never move an arm: replay with dry_run:=true"
        publisher, doubt = self._identities.of(info)
        return doubt or self._source.refusal(publisher, now)

    def _on_heartbeat(self, message: DiagnosticArray) -> None:
        try:
            signs = heartbeat.signs_of_life(message)
        except BadInput as error:
            self.get_logger().error(f"heartbeat dropped: {error}", throttle_duration_sec=5.0)
            return
        for name in signs.keys() & self._settings.watchdogs.keys():
            self._signs[name] = signs[name]
            self._loop.heard(name, signs[name])

    def on_request(self, answer: Any, request: Request) -> Any:
        """Put a request to the controller; the answer says whether it was granted, and why not."""
        if not self._loop.ticking.is_set():
            answer.success, answer.message = False, "the arm node is not active: activate it first"
            return answer
        refusal = self._refusal(request)
        granted = "granted, in a dry run: the arm is not moved" if self._dry_run else "granted"
        answer.success, answer.message = refusal is None, refusal or granted
        return answer

    def on_disable(self, asked: SetBool.Request, answer: SetBool.Response) -> SetBool.Response:
        """Cut motor power: of an arm at its park position, or anywhere where ``data`` is true. THE ARM DROPS."""
        return self.on_request(answer, lambda controller, now: controller.request_disable(now, force=asked.data))

    def _refusal(self, request: Request) -> str | None:
        try:
            return self._loop.ask(request).result(_ANSWER_WITHIN)
        except concurrent.futures.TimeoutError:
            return f"the control loop did not answer within {_ANSWER_WITHIN:g} s"

    def _park(self) -> None:
        """Park, unless that is refused; a second signal, or the arm's own reasons, end it on the way."""
        refusal = self._refusal(ArmController.request_park)
        if refusal is not None:
            self._warn(f"not parked: {refusal}")
            return
        self._wait(lambda: self._state is not ArmState.PARKING or self.hurry.is_set(), self.value("exit_timeout"))

    @property
    def _state(self) -> ArmState | None:
        return None if self._loop.latest is None else self._loop.latest.state

    def _wait(self, done: Callable[[], bool], timeout: float) -> None:
        """Until ``done``, ``timeout`` [s] at most, publishing what happens meanwhile."""
        deadline = time.monotonic() + timeout
        time.sleep(_LOOK_PERIOD)  # what was asked for takes a period to begin
        while not done() and time.monotonic() < deadline:
            self._publish()
            time.sleep(_LOOK_PERIOD)

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
