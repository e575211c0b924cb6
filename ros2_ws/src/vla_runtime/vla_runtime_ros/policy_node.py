"""The node that thinks: observations in, action chunks out; slow, wrong or dead, it cannot move the arm by itself."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.default import default_bundle
from vla_runtime.engines.choice import open_engine
from vla_runtime.errors import BadInput
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime.policy.rtc import PreviousChunk
from vla_runtime_ros import camera_settings, converters, heartbeat, policy_parameters, qos, replayed, running
from vla_runtime_ros.arm_space import ArmSpace
from vla_runtime_ros.continuation import Continuation
from vla_runtime_ros.diagnostics import Health, Level, durations
from vla_runtime_ros.inference_loop import NO_TASK, Answer, InferenceLoop
from vla_runtime_ros.lifecycle import ManagedNode
from vla_runtime_ros.observation_buffer import ObservationBuffer, Snapshot
from vla_runtime_ros.worker import Worker

_END_WITHIN = 30.0  # [s]; one inference of a large policy on a CPU


class PolicyNode(ManagedNode):
    """Answers the newest observation with an action chunk, over and over, while it has a valid task."""

    PARAMETERS = policy_parameters.TABLE

    def __init__(self) -> None:
        super().__init__("policy_node")

    def setup(self) -> None:
        """Open the bundle and its engine; raises `BadInput` for anything that does not fit the policy."""
        bundle = Bundle.open(Path(self.value("bundle")) if self.value("bundle") else default_bundle())
        self._manifest = manifest = bundle.manifest
        self._space = ArmSpace(manifest, self.value("firmware"))
        self._cameras = [camera.name for camera in manifest.cameras]
        transport = camera_settings.transport(self.value("image_transport"))
        topics = camera_settings.topics(self._cameras, self.value("camera_topics"), transport.suffix)
        matching = policy_parameters.matching(self.value, self._cameras)
        rtc = policy_parameters.rtc(self.value)
        precision = policy_parameters.precision(self.value("precision"))
        engine, self._engine_reason = open_engine(bundle, self.value("engine"), precision)
        self.get_logger().info(f"bundle {bundle.root}; {self._engine_reason}")
        self._policy = Policy(bundle, engine, rtc=rtc)
        self._unreadable_joints: str | None = None
        self._replayed = -math.inf
        self._thinking = False
        self._observations: ObservationBuffer[Any] = ObservationBuffer(self._cameras, matching)
        self._continuation = None if rtc is None else self._new_continuation()
        self._chunks = self.publisher(JointTrajectory, "~/action_chunk", qos.CHUNK)
        self._heartbeats = self.publisher(DiagnosticArray, "~/heartbeat", qos.HEARTBEAT)
        self._loop: InferenceLoop[Any] = InferenceLoop(
            _Thinker(self._policy, self._space, transport.decode),
            self._observations,
            self._publish,
            self._on_refused,
            policy_parameters.period(self.value),
            time.time,
            self._continuation,
        )
        if self.value("task"):
            self._loop.set_task(self.value("task"))
        for camera, topic in topics.items():
            self.subscription(transport.message, topic, self._image_callback(camera), transport.profile)
        self.subscription(JointState, self.value("joint_states_topic"), self._on_joints, qos.JOINT_STATE)
        self.subscription(String, "~/task", lambda message: self._loop.set_task(message.data), qos.TASK)
        self.timer(1.0 / self.value("heartbeat_rate"), self._beat)

    def start(self) -> None:
        """Think from now on."""
        self._worker = Worker("inference", self._loop.run, lambda error: self.halt(f"inference failed: {error!r}"))
        self._thinking = True

    def stop(self) -> None:
        """Think no more; what is being inferred is finished but not published."""
        self._thinking = False
        self._worker.stop(_END_WITHIN)

    def changed(self, changes: Mapping[str, Any]) -> None:
        """A new task, pace or matching; raises `BadInput` for camera offsets that are none."""

        def value(name: str) -> Any:
            return changes[name] if name in changes else self.value(name)

        self._observations.match(policy_parameters.matching(value, self._cameras))
        self._loop.period = policy_parameters.period(value)
        if "task" in changes:
            self._loop.set_task(changes["task"])

    def health(self) -> Health:
        """The engine, rates, ages, latencies by stage, and why there is no chunk where there is none."""
        now, idle = time.time(), self._loop.idle_because
        values: dict[str, float | int | str] = {
            "engine": self._engine_reason,
            "rtc": self.value("rtc.form"),
            "chunk_rate_hz": self._loop.rate.per_second(now),
            "chunks": self._loop.chunks,
            "chunks_rejected": self._loop.rejected,
            **self._observations.figures(now),
            **durations(self._policy.spans),
        }
        if self._continuation is not None and self._continuation.latency is not None:
            values["rtc_latency_ms"] = self._continuation.latency * 1e3
            values["rtc_frozen"] = self._continuation.frozen or 0
        if self._unreadable_joints is not None:
            values["joint_states_unreadable"] = self._unreadable_joints
        if idle is None:
            return Health(Level.OK, "answering observations", values)
        return Health(Level.OK if idle == NO_TASK else Level.WARN, idle, values)

    def _new_continuation(self) -> Continuation:
        return Continuation(
            self._manifest.rate,
            self.value("rtc.latency_percentile"),
            self.value("rtc.tolerance"),
            self._space.measured,
            self._space.commanded,
        )

    def _image_callback(self, camera: str) -> Callable[[Any], None]:
        def receive(message: CompressedImage | Image) -> None:
            stamp = self._stamp(message)
            self._observations.put_image(camera, stamp, message, time.time())

        return receive

    def _on_joints(self, message: JointState) -> None:
        try:
            positions = converters.positions_by_name(message, self._space.measured)
        except BadInput as error:  # another device may publish its own joints on the same topic
            self._unreadable_joints = str(error)
            return
        self._observations.put_state(self._stamp(message), positions, time.time())

    def _stamp(self, message: Any) -> float:
        """When the message is from, in [s]; that something is a replay is remembered."""
        stamp = converters.seconds(message.header.stamp)
        if replayed.marked(message.header.frame_id):
            self._replayed = max(self._replayed, stamp)
        return stamp

    def _on_refused(self, reason: str) -> None:
        self.get_logger().error(f"task refused, no chunks until a valid one comes: {reason}")

    def _publish(self, snapshot: Snapshot[Any], targets: NDArray[np.float64]) -> None:
        message = converters.trajectory(snapshot.stamp, self._space.commanded, targets, self._manifest.rate)
        if snapshot.stamp <= self._replayed + self.value("observation_timeout"):  # some of it may be a replay
            message.header.frame_id = replayed.mark("")
        self._chunks.publish(message)

    def _beat(self) -> None:
        if self._thinking:
            line = self._loop.idle_because or "answering observations"
            taken = self._observations.stamps()
            self._heartbeats.publish(heartbeat.message(self.get_fully_qualified_name(), time.time(), line, taken))


class _Thinker:
    """A policy that takes what the topics carried."""

    def __init__(self, policy: Policy, space: ArmSpace, decode: Callable[[Any], NDArray[np.uint8]]) -> None:
        self._policy, self._space, self._decode = policy, space, decode

    def set_task(self, task: str) -> None:
        self._policy.set_task(task)

    def infer(self, snapshot: Snapshot[Any], previous: PreviousChunk | None) -> Answer:
        with self._policy.spans.span("decode"):
            images = {camera: self._decode(message) for camera, message in snapshot.images.items()}
        observation = Observation(images, self._space.state(snapshot.state))
        actions = self._policy.infer(observation, previous=previous)
        with self._policy.spans.span("targets"):
            return Answer(actions, self._space.targets(actions, snapshot.state))


def main() -> None:
    """The executable."""
    sys.exit(running.main(PolicyNode))


if __name__ == "__main__":
    main()
