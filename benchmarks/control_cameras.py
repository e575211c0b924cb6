"""Two cameras that cost nothing but their messages: JPEGs of noise, stamped when they are published.

    python -m benchmarks.control_cameras HEIGHT WIDTH RATE

The noise is smooth, so that a picture has the size of one of a room.
"""

from __future__ import annotations

import sys
import time

import cv2
import numpy as np
import rclpy
from sensor_msgs.msg import CompressedImage

from vla_runtime_ros import converters, qos

TOPICS = {"side": "/benchmark/side", "wrist": "/benchmark/wrist"}
_COARSE = 8  # [px]
_QUALITY = 90


def main(height: int, width: int, rate: float) -> None:
    """Publish until killed."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // _COARSE, width // _COARSE, 3), np.uint8)
    picture = np.asarray(cv2.resize(coarse, (width, height)), np.uint8)
    encoded = converters.compressed_from_rgb(picture, 0.0, "camera", _QUALITY)
    rclpy.init()
    node = rclpy.create_node("benchmark_cameras")
    publishers = [node.create_publisher(CompressedImage, topic, qos.IMAGE_SOURCE) for topic in TOPICS.values()]
    due = time.monotonic()
    while True:
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
        encoded.header.stamp = converters.stamp(time.time())
        for publisher in publishers:
            publisher.publish(encoded)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
