"""Capture from cameras and joints that publish over real DDS."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from sensor_msgs.msg import CompressedImage

from vla_calibration import capture, cli, dataset
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import WorkFailed
from vla_runtime_ros import converters, qos

SIZES = {"side": (24, 32), "wrist": (16, 16)}


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(random.randrange(1, 102)))


@pytest.fixture
def robot(domain: None) -> Iterator[None]:
    """Two cameras whose every pixel tells the image's number, and joints that measure the same number."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("robot", context=context)
    cameras = {
        name: node.create_publisher(CompressedImage, f"/{name}/image_raw/compressed", qos.IMAGE_SOURCE)
        for name in SIZES
    }
    joints = node.create_publisher(converters.JointState, "/joint_states", qos.JOINT_STATE_SOURCE)
    ending = threading.Event()

    def publish() -> None:
        number = 0
        while not ending.is_set():
            number = (number + 1) % 250
            now = time.time()
            joints.publish(converters.joint_state(now, JOINT_NAMES[::-1], np.full(7, number, np.float64)))
            for name, publisher in cameras.items():
                png = cv2.imencode(".png", np.full((*SIZES[name], 3), number, np.uint8))[1].tobytes()
                message = CompressedImage(format="png", data=png)
                message.header.stamp = converters.stamp(now)
                publisher.publish(message)
            ending.wait(0.02)

    thread = threading.Thread(target=publish)
    thread.start()
    yield
    ending.set()
    thread.join()
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_captured_images_and_joints_show_the_same_moment(
    robot: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "set"
    options = ["-o", str(target), "--samples", "5", "--rate", "20", "--task", "reach the red cube", "--json"]
    assert cli.main(["capture", *options]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(target), "count": 5, "cameras": ["side", "wrist"]}
    calibration = dataset.read(target)
    assert calibration.task == "reach the red cube"
    assert [dimension.name for dimension in calibration.dimensions] == list(JOINT_NAMES)
    assert {name: images.shape for name, images in calibration.images.items()} == {
        name: (5, *size, 3) for name, size in SIZES.items()
    }
    assert np.all(np.diff(calibration.stamps) > 0)
    # The stamp is the oldest image's, so a camera may be ahead of it by what arrived meanwhile, never behind.
    numbers = np.stack([images.reshape(5, -1)[:, 0] for images in calibration.images.values()])
    np.testing.assert_array_equal(calibration.state, np.repeat(numbers.min(axis=0)[:, None], 7, axis=1))


def test_one_camera_by_name_and_topic(robot: None) -> None:
    topics = capture.topics(["front=/side/image_raw/compressed"])
    calibration = capture.capture(topics, "/joint_states", 2, 20.0, None, lambda: None)
    assert list(calibration.images) == ["front"]


def test_a_silent_topic_is_named(robot: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(capture, "PATIENCE", 1.0)
    topics = capture.topics(["side=/side/image_raw/compressed", "top=/nobody"])
    with pytest.raises(WorkFailed, match="no image of camera top yet"):
        capture.capture(topics, "/joint_states", 2, 20.0, None, lambda: None)


def test_without_any_camera_nothing_is_left_behind(
    domain: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(capture, "PATIENCE", 0.5)
    assert cli.main(["capture", "-o", str(tmp_path / "set")]) == 1
    assert "no topic CAMERA/image_raw/compressed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--samples", "0"], "--samples is 0"),
        (["--rate", "0"], "--rate is 0"),
        (["--rate", "nan"], "--rate is nan"),
        (["--camera", "side"], "'side' is not NAME=VALUE"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_2(
    options: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["capture", "-o", str(tmp_path / "set"), *options]) == 2
    assert line in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_an_output_that_exists_is_refused_before_anything_is_captured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["capture", "-o", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err
