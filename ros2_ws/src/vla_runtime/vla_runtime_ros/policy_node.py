"""The node that thinks: observations in, action chunks out; slow, wrong or dead, it cannot move the arm by itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.bundle.default import default_bundle
from vla_runtime.bundle.manifest import Precision
from vla_runtime.engines.choice import open_engine
from vla_runtime.errors import BadInput
from vla_runtime.policy.joint_space import joint_names
from vla_runtime.policy.policy import Observation, Policy
from vla_runtime_ros import converters, params, qos, running
from vla_runtime_ros.diagnostics import Health, Level, durations
from vla_runtime_ros.inference_loop import NO_TASK, InferenceLoop
from vla_runtime_ros.lifecycle import ManagedNode
from vla_runtime_ros.observation_buffer import ObservationBuffer, Snapshot
from vla_runtime_ros.params import NO_STRINGS, Parameter
from vla_runtime_ros.worker import Worker

_END_WITHIN = 30.0  # [s]; one inference of a large policy on a CPU


class PolicyNode(ManagedNode):
    """Answers the newest observation with an action chunk, over and over, while it has a valid task."""

    PARAMETERS = (
        Parameter("bundle", "", "Policy bundle; empty for $VLA_BUNDLE, else the last one exported on this machine."),
        Parameter("engine", "auto", "Inference engine: auto, onnxruntime or tensorrt."),
        Parameter("precision", "auto", "Precision of the graphs: auto, fp32, fp16 or int8."),
        Parameter("chunk_rate", 0.0, "Most chunks per second [Hz]; 0 for as many as the policy can.", (0.0, 100.0)),
        Parameter("observation_timeout", 0.5, "Age beyond which an input is stale [s].", (0.02, 10.0)),
        Parameter("image_transport", "compressed", "What the camera topics carry: compressed or raw."),
        Parameter("camera_topics", NO_STRINGS, "CAMERA=TOPIC of cameras not on CAMERA/image_raw[/compressed]."),
        Parameter("joint_states_topic", "joint_states", "Topic of the measured joints."),
    )

    def __init__(self) -> None:
        super().__init__("policy_node")

    def setup(self) -> None:
        """Open the bundle and its engine; raises `BadInput` for anything that does not fit the policy."""
        bundle = Bundle.open(Path(self.value("bundle")) if self.value("bundle") else default_bundle())
        self._manifest = bundle.manifest
        self._action_names = joint_names("action", bundle.manifest.action)
        require_all_joints(self._action_names)
        self._state_names = joint_names("state", bundle.manifest.state)
        cameras = [camera.name for camera in bundle.manifest.cameras]
        message_type, decode, suffix, profile = _transport(self.value("image_transport"))
        topics = camera_topics(cameras, self.value("camera_topics"), suffix)
        engine, self._engine_reason = open_engine(bundle, self.value("engine"), _precision(self.value("precision")))
        self.get_logger().info(f"bundle {bundle.root}; {self._engine_reason}")
        self._policy = Policy(bundle, engine)
        self._unreadable_joints: str | None = None
        self._observations: ObservationBuffer[Any] = ObservationBuffer(cameras, self.value("observation_timeout"))
        self._chunks = self.publisher(JointTrajectory, "~/action_chunk", qos.CHUNK)
        period = 1.0 / self.value("chunk_rate") if self.value("chunk_rate") else 0.0
        self._loop: InferenceLoop[Any] = InferenceLoop(
            _Thinker(self._policy, decode), self._observations, self._publish, self._on_refused, period, time.time
        )
        for camera, topic in topics.items():
            self.subscription(message_type, topic, self._image_callback(camera), profile)
        self.subscription(JointState, self.value("joint_states_topic"), self._on_joints, qos.JOINT_STATE)
        self.subscription(String, "~/task", lambda message: self._loop.set_task(message.data), qos.TASK)

    def start(self) -> None:
        """Think from now on."""
        self._worker = Worker("inference", self._loop.run, lambda error: self.halt(f"inference failed: {error!r}"))

    def stop(self) -> None:
        """Think no more; what is being inferred is finished but not published."""
        self._worker.stop(_END_WITHIN)

    def health(self) -> Health:
        """The engine, rates, ages, latencies by stage, and why there is no chunk where there is none."""
        now, idle = time.time(), self._loop.idle_because
        values: dict[str, float | int | str] = {
            "engine": self._engine_reason,
            "chunk_rate_hz": self._loop.rate.per_second(now),
            "chunks": self._loop.chunks,
            **self._observations.figures(now),
            **durations(self._policy.spans),
        }
        if self._unreadable_joints is not None:
            values["joint_states_unreadable"] = self._unreadable_joints
        if idle is None:
            return Health(Level.OK, "answering observations", values)
        return Health(Level.OK if idle == NO_TASK else Level.WARN, idle, values)

    def _image_callback(self, camera: str) -> Callable[[Any], None]:
        def receive(message: CompressedImage | Image) -> None:
            self._observations.put_image(camera, converters.seconds(message.header.stamp), message, time.time())

        return receive

    def _on_joints(self, message: JointState) -> None:
        try:
            positions = converters.positions_by_name(message, self._state_names)
        except BadInput as error:  # another device may publish its own joints on the same topic
            self._unreadable_joints = str(error)
            return
        self._observations.put_state(converters.seconds(message.header.stamp), positions, time.time())

    def _on_refused(self, reason: str) -> None:
        self.get_logger().error(f"task refused, no chunks until a valid one comes: {reason}")

    def _publish(self, stamp: float, actions: NDArray[np.float64]) -> None:
        self._chunks.publish(converters.trajectory(stamp, self._action_names, actions, self._manifest.rate))


class _Thinker:
    """A policy that takes what the topics carried."""

    def __init__(self, policy: Policy, decode: Callable[[Any], NDArray[np.uint8]]) -> None:
        self._policy, self._decode = policy, decode

    def set_task(self, task: str) -> None:
        self._policy.set_task(task)

    def infer(self, snapshot: Snapshot[Any]) -> NDArray[np.float64]:
        with self._policy.spans.span("decode"):
            images = {camera: self._decode(message) for camera, message in snapshot.images.items()}
        return self._policy.infer(Observation(images, snapshot.state))


def camera_topics(cameras: Sequence[str], entries: Sequence[str], suffix: str) -> dict[str, str]:
    """The topic of every camera of the policy; raises `BadInput` for an entry that names another."""
    given = params.pairs("camera_topics", entries)
    for name in given:
        if name not in cameras:
            raise BadInput(f"camera_topics names camera {name!r}; this policy knows {', '.join(cameras)}")
    return {camera: given.get(camera, f"{camera}/{suffix}") for camera in cameras}


def _transport(name: str) -> tuple[Any, Callable[[Any], NDArray[np.uint8]], str, Any]:
    if name == "compressed":
        return CompressedImage, converters.rgb_from_compressed, "image_raw/compressed", qos.COMPRESSED_IMAGE
    if name == "raw":
        return Image, converters.rgb_from_raw, "image_raw", qos.RAW_IMAGE
    raise BadInput(f"parameter image_transport is {name!r}; it can be compressed or raw")


def _precision(name: str) -> Precision | None:
    if name == "auto":
        return None
    if name not in get_args(Precision):
        raise BadInput(f"parameter precision is {name!r}; it can be auto, {', '.join(get_args(Precision))}")
    return cast(Precision, name)


def require_all_joints(names: Sequence[str]) -> None:
    """Raises `BadInput` naming the joints of the arm that are not among ``names``."""
    missing = [name for name in JOINT_NAMES if name not in names]
    if missing:
        raise BadInput(f"the policy's action has no {', '.join(missing)}: the arm needs every joint")


def main() -> None:
    """The executable."""
    sys.exit(running.main(PolicyNode))


if __name__ == "__main__":
    main()
