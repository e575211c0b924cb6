"""Offsets that are known, in made-up motion and in the simulated scene."""

from __future__ import annotations

import json
import random
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, JointState

from vla_calibration import cli
from vla_calibration.timing import ImageMotion, JointMotion, offset
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import WorkFailed
from vla_runtime.sim.cameras import Cameras
from vla_runtime.sim.scene import HOME, Scene
from vla_runtime_ros import converters, qos

STORE = get_typestore(Stores.ROS2_KILTED)


class Moves:
    """Short moves of all joints at once, from rest to rest, with pauses; ``at`` gives the joints at any time."""

    def __init__(self, seed: int, size: float = 1.0, seconds: float = 30.0) -> None:
        rng = np.random.default_rng(seed)
        times, places = [0.0], [np.zeros(7)]
        while times[-1] < seconds:
            times += [times[-1] + rng.uniform(0.1, 0.5)]
            times += [times[-1] + rng.uniform(0.35, 0.7)]
            places += [places[-1], rng.uniform(-1.0, 1.0, 7) * size * [0.45, 0.2, 0.2, 0.3, 0.3, 0.5, 0.0]]
        self._times, self._places = np.array(times), np.array(places)

    def at(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        before = np.clip(np.searchsorted(self._times, times, side="right") - 1, 0, len(self._times) - 2)
        share = (times - self._times[before]) / np.diff(self._times)[before]
        smooth = (share**3 * (10 - 15 * share + 6 * share**2))[:, None]
        places: NDArray[np.float64] = (1 - smooth) * self._places[before] + smooth * self._places[before + 1]
        return places


def joints_of(moves: Moves, seconds: float) -> JointMotion:
    times = np.arange(0.0, seconds, 0.01)
    motion = JointMotion()
    for at, positions in zip(times.tolist(), moves.at(times), strict=True):
        motion.add(at, positions)
    return motion


def images_of(moves: Moves, seconds: float, late: float, noise: float, seed: int) -> ImageMotion:
    """A camera whose pictures change as some of the joints move, stamped ``late`` [s] after they were taken."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.025, 0.045, int(seconds / 0.035)))  # it does not keep its rate
    weights = rng.uniform(0.0, 60.0, 7)
    seen = moves.at(times) * weights
    energies = np.abs(np.diff(seen, axis=0)).sum(axis=1) + np.abs(rng.normal(0.0, noise, len(times) - 1))
    return ImageMotion((times + late).tolist(), [float("nan"), *energies.tolist()])


@settings(max_examples=8, deadline=None)
@given(st.floats(-0.2, 0.3), st.integers(0, 10_000))
def test_what_the_stamps_are_late_by_is_found_whatever_it_is(late: float, seed: int) -> None:
    moves = Moves(seed)
    found = offset("side", images_of(moves, 25.0, late, 0.2, seed), joints_of(moves, 25.0))
    assert found.seconds == pytest.approx(-late, abs=max(0.004, 4 * found.error))
    assert found.error < 0.005
    assert found.fit > 0.7


def test_noise_makes_it_less_certain_and_says_so() -> None:
    moves = Moves(1)
    joints = joints_of(moves, 25.0)
    quiet = offset("side", images_of(moves, 25.0, 0.1, 0.05, 2), joints)
    loud = offset("side", images_of(moves, 25.0, 0.1, 2.0, 2), joints)
    assert loud.error > quiet.error
    assert loud.fit < quiet.fit


@pytest.mark.parametrize(
    ("images", "joints", "line"),
    [
        (ImageMotion(), joints_of(Moves(0), 5.0), "camera side: 0 pictures came"),
        (images_of(Moves(0), 5.0, 0.0, 0.1, 0), JointMotion(), "0 joint states came"),
        (images_of(Moves(0), 2.0, 0.0, 0.1, 0), joints_of(Moves(0), 2.0), "measure longer"),
        (images_of(Moves(0), 20.0, 0.0, 0.1, 0), joints_of(Moves(0, 0.001), 20.0), "the joints hardly moved"),
        (images_of(Moves(7), 20.0, 0.0, 0.1, 0), joints_of(Moves(0), 20.0), "do not change with the joints"),
        (images_of(Moves(0), 20.0, 0.9, 0.1, 0), joints_of(Moves(0), 20.0), "side"),
    ],
)
def test_what_cannot_be_told_is_said_and_not_guessed(images: ImageMotion, joints: JointMotion, line: str) -> None:
    with pytest.raises(WorkFailed, match=line):
        offset("side", images, joints)


def test_a_picture_is_compared_with_the_one_before_it() -> None:
    motion = ImageMotion()
    for stamp, shape in ((0.0, (32, 32)), (0.1, (32, 32)), (0.1, (32, 32)), (0.2, (24, 32))):
        motion.add(stamp, np.full((*shape, 3), 10 + int(100 * stamp), np.uint8))
    assert motion.stamps == [0.0, 0.1, 0.2]
    np.testing.assert_array_equal(motion.energies, [np.nan, 10.0, np.nan])  # the last has another shape


@pytest.fixture(scope="module")
def filmed() -> tuple[dict[str, list[tuple[float, NDArray[np.uint8]]]], list[tuple[float, NDArray[np.float64]]]]:
    """The simulated arm moves before two cameras: (time, picture) of each and (time, posture), on one clock."""
    scene, moves = Scene(0), Moves(3)
    cameras = Cameras(scene, 48, 64)
    pictures: dict[str, list[tuple[float, NDArray[np.uint8]]]] = {"side": [], "wrist": []}
    postures = []
    home = np.array(HOME)
    for step in range(1200):
        now = step * 0.01
        postures.append((now, scene.positions))
        if step % 6 == 0:
            for name, taken in pictures.items():
                taken.append((now, cameras.render(name)))
        scene.apply(home + moves.at(np.array([now]))[0], 0.01)
    cameras.close()
    return pictures, postures


LATE = {"side": 0.045, "wrist": 0.120}


def test_two_cameras_of_the_simulated_scene(
    filmed: tuple[dict[str, list[tuple[float, NDArray[np.uint8]]]], list[tuple[float, NDArray[np.float64]]]],
) -> None:
    pictures, postures = filmed
    joints = JointMotion()
    for at, posture in postures:
        joints.add(at, posture)
    for name, late in LATE.items():
        motion = ImageMotion()
        for at, picture in pictures[name]:
            motion.add(at + late, picture)
        found = offset(name, motion, joints)
        assert found.seconds == pytest.approx(-late, abs=0.006), name
        assert found.fit > 0.8, name


def test_a_bag_gives_the_line_for_the_config(
    filmed: tuple[dict[str, list[tuple[float, NDArray[np.uint8]]]], list[tuple[float, NDArray[np.float64]]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures, postures = filmed
    root = tmp_path / "bag"
    write_bag(root, pictures, postures)
    assert cli.main(["timing", "--bag", str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].strip().startswith('camera_offsets: ["side=-0.04')
    assert cli.main(["timing", "--bag", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {name: one["seconds"] for name, one in found.items()} == pytest.approx(
        {name: -late for name, late in LATE.items()}, abs=0.006
    )
    assert cli.main(["timing", "--bag", str(root), "--joints", "/nowhere"]) == 2
    assert "has no /nowhere; it has /joint_states" in capsys.readouterr().err


def test_running_topics_are_measured_as_a_bag_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(random.randrange(1, 102)))
    late, moves, ending = 0.08, Moves(5), threading.Event()
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("robot", context=context)
    camera = node.create_publisher(CompressedImage, "/side/image_raw/compressed", qos.IMAGE_SOURCE)
    joints = node.create_publisher(JointState, "/joint_states", qos.JOINT_STATE_SOURCE)

    def publish() -> None:
        began = time.time()
        number = 0
        while not ending.is_set():
            now = time.time()
            posture = moves.at(np.array([now - began]))[0]
            joints.publish(converters.joint_state(now, JOINT_NAMES, posture))
            if number % 4 == 0:
                picture = np.zeros((48, 64, 3), np.uint8)
                picture[:, :, 1] = 128 + 100 * np.sin(posture[0] * 12 + np.arange(64) / 4)
                camera.publish(converters.compressed_from_rgb(picture, now + late, "", 95))
            number += 1
            ending.wait(0.01)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        assert cli.main(["timing", "--seconds", "8", "--json"]) == 0
    finally:
        ending.set()
        thread.join()
        node.destroy_node()
        rclpy.shutdown(context=context)
    found = json.loads(capsys.readouterr().out)
    assert found["side"]["seconds"] == pytest.approx(-late, abs=0.015)


def test_a_time_that_is_too_short_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["timing", "--seconds", "1"]) == 2
    assert "--seconds is 1: give 5 to 600" in capsys.readouterr().err


def write_bag(
    root: Path,
    pictures: dict[str, list[tuple[float, NDArray[np.uint8]]]],
    postures: list[tuple[float, NDArray[np.float64]]],
) -> None:
    types, start = STORE.types, 1_700_000_000
    none = np.array([], np.float64)

    def header(at: float) -> object:
        stamp = types["builtin_interfaces/msg/Time"](start + int(at), int(at % 1 * 1e9))
        return types["std_msgs/msg/Header"](stamp, "")

    messages = []
    for name, taken in pictures.items():
        for at, picture in taken:
            encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].reshape(-1)
            message = types["sensor_msgs/msg/CompressedImage"](header(at + LATE[name]), "jpeg", encoded)
            messages.append((at + LATE[name], f"/{name}/image_raw/compressed", message))
    for at, posture in postures:
        message = types["sensor_msgs/msg/JointState"](header(at), list(JOINT_NAMES), posture, none, none)
        messages.append((at, "/joint_states", message))
    with Writer(root, version=9) as writer:
        connections: dict[str, object] = {}
        for at, topic, message in sorted(messages, key=lambda one: one[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            data = STORE.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], int((start + at) * 1e9), data)
