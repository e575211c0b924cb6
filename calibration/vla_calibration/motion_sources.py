"""Pictures and joints of a moving arm, from the running topics or from a bag."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from vla_calibration import capture
from vla_calibration.timing import ImageMotion, JointMotion
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput

try:
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import CompressedImage, Image, JointState

    from vla_runtime_ros import bag, converters, qos
except ImportError as error:
    raise BadInput(f"timing needs ROS 2 and the package vla_runtime ({error}): source the workspace first") from error

Motion = tuple[dict[str, ImageMotion], JointMotion]

_IMAGES = {"sensor_msgs/msg/CompressedImage": CompressedImage, "sensor_msgs/msg/Image": Image}
_COMPRESSED = "/compressed"


def from_topics(cameras: Mapping[str, str], joints: str, seconds: float, on_second: Callable[[], None]) -> Motion:
    """What comes within ``seconds`` on the topics; ``on_second`` is called once a second.

    cameras: topic per camera name, compressed where it ends so; empty for every CAMERA/image_raw/compressed there is.
    Raises `WorkFailed` where there is no camera.
    """
    with capture.listening_node() as (node, spin):
        chosen = dict(cameras) or capture.advertised(node, spin)
        images = {camera: ImageMotion() for camera in chosen}
        measured = JointMotion()
        for camera, topic in chosen.items():
            packed = topic.endswith(_COMPRESSED)
            node.create_subscription(
                CompressedImage if packed else Image,
                topic,
                lambda message, motion=images[camera]: _see(motion, message),
                qos.COMPRESSED_IMAGE if packed else qos.RAW_IMAGE,
            )
        node.create_subscription(JointState, joints, lambda message: _feel(measured, message), qos.JOINT_STATE)
        began = time.monotonic()
        passed = 0
        while (gone := time.monotonic() - began) < seconds:
            spin(0.05)
            if int(gone) > passed:
                passed = int(gone)
                on_second()
    return images, measured


def from_bag(root: Path, cameras: Mapping[str, str], joints: str) -> Motion:
    """What is in the bag; ``cameras`` empty for every image topic in it.

    Raises `BadInput` where the bag cannot be read, or does not have the topics.
    """
    with bag.opened(root) as reader:
        kinds = bag.topics(reader)
        chosen = dict(cameras) or {_camera(topic): topic for topic, kind in kinds.items() if kind in _IMAGES}
        for topic in (*chosen.values(), joints):
            if topic not in kinds:
                raise BadInput(f"{root} has no {topic}; it has {', '.join(sorted(kinds)) or 'nothing'}")
        names = {topic: camera for camera, topic in chosen.items()}
        if len(names) < len(chosen) or not chosen:
            raise BadInput(f"{root}: name its cameras with --camera NAME=TOPIC, each once")
        images = {camera: ImageMotion() for camera in chosen}
        measured = JointMotion()
        for message in bag.recorded(reader, [*names, joints]):
            if message.topic == joints:
                _feel(measured, deserialize_message(bytes(message.data), JointState))
            else:
                _see(images[names[message.topic]], deserialize_message(bytes(message.data), _IMAGES[message.kind]))
    return images, measured


def _camera(topic: str) -> str:
    """``/left/side/image_raw/compressed`` → ``side``."""
    return topic.removesuffix(_COMPRESSED).removesuffix("/image_raw").rsplit("/", 1)[-1]


def _see(motion: ImageMotion, message: CompressedImage | Image) -> None:
    decode = converters.rgb_from_compressed if isinstance(message, CompressedImage) else converters.rgb_from_raw
    motion.add(converters.seconds(message.header.stamp), decode(message))


def _feel(motion: JointMotion, message: JointState) -> None:
    motion.add(converters.seconds(message.header.stamp), converters.positions_by_name(message, JOINT_NAMES))
