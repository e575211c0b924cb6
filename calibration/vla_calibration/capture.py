"""Recording observations from the running topics, the same way the policy node sees them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from vla_calibration.dataset import CalibrationSet, StateDimension
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput, WorkFailed

try:
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from sensor_msgs.msg import CompressedImage, JointState

    from vla_runtime_ros import converters, params, qos
    from vla_runtime_ros.observation_buffer import Matching, NotReadyError, ObservationBuffer, Snapshot
except ImportError as error:
    raise BadInput(f"capture needs ROS 2 and the package vla_runtime ({error}): source the workspace first") from error

DIMENSIONS = tuple(StateDimension(name=name, unit="m" if name == "gripper" else "rad") for name in JOINT_NAMES)
PATIENCE = 10.0
"""How long to wait for a topic, or for the next observation, in [s]."""

_STALE = 0.5
_SUFFIX = "/image_raw/compressed"


def topics(entries: Sequence[str]) -> dict[str, str]:
    """``["side=/side/image_raw/compressed"]`` as a mapping; raises `BadInput` for an entry that is not NAME=TOPIC."""
    return params.pairs("--camera", entries)


def capture(
    cameras: Mapping[str, str], joints: str, samples: int, rate: float, task: str | None, on_sample: Callable[[], None]
) -> CalibrationSet:
    """Take ``samples`` observations, ``rate`` a second, from compressed image topics and joint states.

    cameras: topic per camera name; empty for every ``CAMERA/image_raw/compressed`` there is.
    Raises `WorkFailed` where a topic stays silent or a camera changes its size.
    """
    with listening_node() as (node, spin):
        chosen = dict(cameras) or advertised(node, spin)
        observations: ObservationBuffer[CompressedImage] = ObservationBuffer(tuple(chosen), Matching(_STALE))
        _listen(node, observations, chosen, joints)
        snapshots = _take(observations, spin, samples, 1.0 / rate, on_sample)
    images = {camera: [converters.rgb_from_compressed(shot.images[camera]) for shot in snapshots] for camera in chosen}
    for camera, sequence in images.items():
        if len({image.shape for image in sequence}) > 1:
            raise WorkFailed(f"camera {camera} changed its image size while capturing: capture again with one size")
    return CalibrationSet(
        images={camera: np.stack(sequence) for camera, sequence in images.items()},
        state=np.stack([shot.state for shot in snapshots]).astype(np.float32),
        stamps=np.array([shot.stamp for shot in snapshots]),
        dimensions=DIMENSIONS,
        task=task,
    )


@contextmanager
def listening_node() -> Iterator[tuple[Node, Callable[[float], None]]]:
    """A node of our own and a function that serves it for some seconds at most."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("vla_calibrate", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield node, lambda timeout: executor.spin_once(timeout_sec=timeout)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def advertised(node: Node, spin: Callable[[float], None]) -> dict[str, str]:
    """Every topic CAMERA/image_raw/compressed by its camera; raises `WorkFailed` where there is none."""
    deadline = time.monotonic() + PATIENCE
    settled = time.monotonic() + 1.0  # topics of one robot are discovered one after the other
    while time.monotonic() < deadline:
        spin(0.1)
        found = {
            topic.removesuffix(_SUFFIX).rsplit("/", 1)[-1]: topic
            for topic, types in node.get_topic_names_and_types()
            if topic.endswith(_SUFFIX) and "sensor_msgs/msg/CompressedImage" in types
        }
        if found and time.monotonic() > settled:
            return dict(sorted(found.items()))
    raise WorkFailed(f"no topic CAMERA{_SUFFIX} within {PATIENCE:g} s: start the cameras, or name them with --camera")


def _listen(
    node: Node, observations: ObservationBuffer[CompressedImage], cameras: Mapping[str, str], joints: str
) -> None:
    def on_image(camera: str, message: CompressedImage) -> None:
        observations.put_image(camera, converters.seconds(message.header.stamp), message, time.time())

    def on_joints(message: JointState) -> None:
        positions = converters.positions_by_name(message, JOINT_NAMES)
        observations.put_state(converters.seconds(message.header.stamp), positions, time.time())

    for camera, topic in cameras.items():
        node.create_subscription(
            CompressedImage, topic, lambda message, camera=camera: on_image(camera, message), qos.COMPRESSED_IMAGE
        )
    node.create_subscription(JointState, joints, on_joints, qos.JOINT_STATE)


def _take(
    observations: ObservationBuffer[CompressedImage],
    spin: Callable[[float], None],
    samples: int,
    period: float,
    on_sample: Callable[[], None],
) -> list[Snapshot[CompressedImage]]:
    snapshots: list[Snapshot[CompressedImage]] = []
    due = time.monotonic()
    deadline = due + PATIENCE
    while len(snapshots) < samples:
        spin(0.05)
        now = time.monotonic()
        if now > deadline:
            raise WorkFailed(f"no observation within {PATIENCE:g} s: {_missing(observations)}; is the robot running?")
        if now < due or not observations.wait_fresh(0.0):
            continue
        try:
            snapshots.append(observations.snapshot(time.time()))
        except NotReadyError:
            continue
        on_sample()
        due, deadline = max(due + period, now), now + period + PATIENCE
    return snapshots


def _missing(observations: ObservationBuffer[CompressedImage]) -> str:
    try:
        observations.check(time.time())
    except NotReadyError as error:
        return str(error)
    return "not every camera sent a new image"
