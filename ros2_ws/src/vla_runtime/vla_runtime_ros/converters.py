"""Between ROS messages and arrays; joints always by name, colours always RGB."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.errors import BadInput

_NANO = 1_000_000_000
_RAW_TO_RGB = {
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}
_CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}


def _split(seconds: float) -> tuple[int, int]:
    whole = math.floor(seconds)
    nanoseconds = round((seconds - whole) * _NANO)
    return (whole + 1, 0) if nanoseconds == _NANO else (whole, nanoseconds)


def stamp(seconds: float) -> Time:
    """A time in [s] since the epoch as a message."""
    sec, nanosec = _split(seconds)
    return Time(sec=sec, nanosec=nanosec)


def duration(seconds: float) -> Duration:
    """A duration in [s] as a message."""
    sec, nanosec = _split(seconds)
    return Duration(sec=sec, nanosec=nanosec)


def seconds(time: Time | Duration) -> float:
    """A time or a duration in [s]."""
    return float(time.sec + time.nanosec / _NANO)


def joint_state(
    time: float, names: Sequence[str], positions: NDArray[np.float64], velocities: NDArray[np.float64] | None = None
) -> JointState:
    """Positions (n,) in [rad] or [m], velocities (n,) in [rad/s] or [m/s], measured or sent at ``time`` in [s]."""
    message = JointState(name=list(names), position=positions.tolist())
    message.header.stamp = stamp(time)
    if velocities is not None:
        message.velocity = velocities.tolist()
    return message


def positions_by_name(message: JointState, names: Sequence[str]) -> NDArray[np.float64]:
    """The positions of ``names``, in that order, whatever order or extra joints the message has. Shape (n,).

    Raises `BadInput` for a joint the message lacks, or names and positions of different length.
    """
    index = _index(message.name, names)
    if len(message.position) != len(message.name):
        raise BadInput(f"a joint state has {len(message.name)} names but {len(message.position)} positions")
    return np.asarray(message.position, dtype=np.float64)[index]


def _index(given: Sequence[str], wanted: Sequence[str]) -> list[int]:
    missing = [name for name in wanted if name not in given]
    if missing:
        raise BadInput(f"no joint named {', '.join(missing)} among {', '.join(given) or 'none'}")
    return [list(given).index(name) for name in wanted]


def trajectory(time: float, names: Sequence[str], actions: NDArray[np.float64], rate: float) -> JointTrajectory:
    """An action chunk (H, n) stamped with its observation's ``time`` in [s]; action i is due i / rate later."""
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = stamp(time)
    message.points = [
        JointTrajectoryPoint(positions=row.tolist(), time_from_start=duration(i / rate))
        for i, row in enumerate(actions)
    ]
    return message


def chunk(message: JointTrajectory) -> ActionChunk:
    """The message as an action chunk of the arm's seven joints, by name.

    Raises `BadInput` for a missing joint, points of the wrong length, or times that do not increase.
    """
    index = _index(message.joint_names, JOINT_NAMES)
    n = len(message.joint_names)
    if any(len(point.positions) != n for point in message.points):
        raise BadInput(f"every point of a trajectory needs {n} positions, one per joint name")
    positions = np.array([point.positions for point in message.points], dtype=np.float64).reshape(-1, n)
    times = np.array([seconds(point.time_from_start) for point in message.points], dtype=np.float64)
    return ActionChunk(stamp=seconds(message.header.stamp), times=times, positions=positions[:, index])


def rgb_from_compressed(message: CompressedImage) -> NDArray[np.uint8]:
    """A JPEG or PNG as RGB. Shape (height, width, 3). Raises `BadInput` where it does not decode."""
    encoded = np.frombuffer(message.data, dtype=np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    if image is None:
        raise BadInput(f"a compressed image of format {message.format!r} does not decode")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def rgb_from_raw(message: Image) -> NDArray[np.uint8]:
    """A raw 8-bit image as RGB. Shape (height, width, 3). Raises `BadInput` for another encoding or a wrong size."""
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        raise BadInput(f"image encoding {message.encoding!r} is not one of {', '.join(_CHANNELS)}")
    if message.step < message.width * channels or len(message.data) != message.height * message.step:
        size = f"{message.width}×{message.height} {message.encoding}"
        raise BadInput(f"a raw image of {size} has {len(message.data)} bytes in rows of {message.step}")
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(message.height, message.step)
    image = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    code = _RAW_TO_RGB[message.encoding]
    return np.ascontiguousarray(image) if code is None else np.asarray(cv2.cvtColor(image, code), dtype=np.uint8)


def compressed_from_rgb(image: NDArray[np.uint8], time: float, frame: str, quality: int) -> CompressedImage:
    """RGB (height, width, 3) as a JPEG taken at ``time`` in [s] in the optical frame ``frame``."""
    ok, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise BadInput(f"an image of shape {image.shape} does not encode as JPEG")
    message = CompressedImage(format="rgb8; jpeg compressed bgr8")
    message.header.stamp = stamp(time)
    message.header.frame_id = frame
    message.data = encoded.tobytes()  # bytes: an ndarray would be copied element by element
    return message


def pinhole(header: Header, height: int, width: int, focal: float) -> CameraInfo:
    """A camera without distortion, its optical axis through the image's centre; ``focal`` in [px]."""
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
