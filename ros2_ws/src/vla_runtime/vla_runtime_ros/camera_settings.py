"""Which topics the cameras of a policy are on, what these carry, and by how much their clocks are off."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from vla_runtime.errors import BadInput
from vla_runtime_ros import converters, params, qos

_LARGEST_OFFSET = 1.0  # [s]; what is farther off is no latency but another clock


class Transport(NamedTuple):
    """What a camera's topic carries, how that becomes RGB (height, width, 3), the topic's last part and its QoS."""

    message: Any
    decode: Callable[[Any], NDArray[np.uint8]]
    suffix: str
    profile: Any


def transport(name: str) -> Transport:
    """By the parameter ``image_transport``; raises `BadInput` for another name."""
    if name == "compressed":
        return Transport(CompressedImage, converters.rgb_from_compressed, "image_raw/compressed", qos.COMPRESSED_IMAGE)
    if name == "raw":
        return Transport(Image, converters.rgb_from_raw, "image_raw", qos.RAW_IMAGE)
    raise BadInput(f"parameter image_transport is {name!r}; it can be compressed or raw")


def topics(cameras: Sequence[str], entries: Sequence[str], suffix: str) -> dict[str, str]:
    """The topic of every camera of the policy; raises `BadInput` for an entry that names another."""
    given = _of_cameras("camera_topics", cameras, entries)
    return {camera: given.get(camera, f"{camera}/{suffix}") for camera in cameras}


def offsets(cameras: Sequence[str], entries: Sequence[str]) -> dict[str, float]:
    """What is added to the stamps of each camera named, in [s]; raises `BadInput` for an entry that is none."""
    found = {}
    for camera, text in _of_cameras("camera_offsets", cameras, entries).items():
        try:
            found[camera] = float(text)
        except ValueError as error:
            raise BadInput(f"camera_offsets of {camera} is {text!r}, expected seconds such as -0.045") from error
        if not math.isfinite(found[camera]) or abs(found[camera]) > _LARGEST_OFFSET:
            raise BadInput(f"camera_offsets of {camera} is {text} s, expected at most {_LARGEST_OFFSET:g} s either way")
    return found


def _of_cameras(parameter: str, cameras: Sequence[str], entries: Sequence[str]) -> dict[str, str]:
    given = params.pairs(parameter, entries)
    for name in given:
        if name not in cameras:
            raise BadInput(f"{parameter} names camera {name!r}; this policy knows {', '.join(cameras)}")
    return given
