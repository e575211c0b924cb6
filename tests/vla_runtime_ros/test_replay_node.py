"""A bag through the real nodes, over real DDS: the policy answers it, and no arm ever moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from numpy.typing import NDArray
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from tests.toy_bundle import write_toy_bundle
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime.safety.controller import ArmController
from vla_runtime_ros import converters, qos, replayed
from vla_runtime_ros.arm_node import ArmNode
from vla_runtime_ros.policy_node import PolicyNode
from vla_runtime_ros.replay_node import ReplayNode

STORE = get_typestore(Stores.ROS2_KILTED)
START = 1_600_000_000.0
POSTURE = np.array([0.1, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03])
SECONDS, IMAGES, JOINTS = 2.0, 10, 50  # of the bag, per second
AGES = {"side": 0.03, "wrist": 0.05}

Wait = Callable[[Callable[[], bool]], None]


def write_bag(root: Path, plugin: StoragePlugin = StoragePlugin.MCAP, only: str = "") -> Path:
    """Images of two cameras, each ``AGES`` old on arrival, and joints; ``only``: nothing but a topic of that type."""
    types, none = STORE.types, np.array([], np.float64)

    def header(time: float) -> Any:
        stamp = types["builtin_interfaces/msg/Time"](int(time), round(time % 1 * 1e9))
        return types["std_msgs/msg/Header"](stamp, "base")

    messages: list[tuple[float, str, Any]] = []
    encoded = cv2.imencode(".png", np.full((32, 32, 3), 90, np.uint8))[1].reshape(-1)
    for name, age in AGES.items():
        for i in range(int(SECONDS * IMAGES)):
            taken = START + i / IMAGES
            image = types["sensor_msgs/msg/CompressedImage"](header(taken), "png", encoded)
            messages.append((taken + age, f"/{name}/image_raw/compressed", image))
    for i in range(int(SECONDS * JOINTS)):
        state = types["sensor_msgs/msg/JointState"](header(START + i / JOINTS), list(JOINT_NAMES), POSTURE, none, none)
        messages.append((START + i / JOINTS, "/joint_states", state))
    if only:
        messages = [(START, "/chatter", types["std_msgs/msg/String"]("hello"))]
    with Writer(root, version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for time_, topic, message in sorted(messages, key=lambda one: one[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(connections[topic], round(time_ * 1e9), STORE.serialize_cdr(message, message.__msgtype__))
    return root


@pytest.mark.parametrize("plugin", list(StoragePlugin))
@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_a_bag_arrives_as_if_it_happened_now(
    make: Callable[..., Any],
    spin: Callable[[Node], None],
    eventually: Wait,
    tmp_path: Path,
    plugin: StoragePlugin,
    rate: float,
) -> None:
    listener = rclpy.create_node("listener")
    heard: list[tuple[float, float, str]] = []
    joints: list[tuple[float, NDArray[np.float64]]] = []

    def on_image(message: Any) -> None:
        heard.append((converters.seconds(message.header.stamp), time.time(), message.header.frame_id))

    def on_joints(message: Any) -> None:
        joints.append((converters.seconds(message.header.stamp), np.array(message.position)))

    listener.create_subscription(
        converters.CompressedImage, "/wrist/image_raw/compressed", on_image, qos.COMPRESSED_IMAGE
    )
    listener.create_subscription(converters.JointState, "/joint_states", on_joints, 200)
    spin(listener)
    node = make(ReplayNode, bag=str(write_bag(tmp_path / "bag", plugin)), rate=rate)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.stopped.text
    eventually(lambda: node.count_subscribers("/joint_states") == 1)
    began = time.time()
    node.trigger_activate()
    eventually(lambda: node.health().message == "the bag has ended")
    eventually(lambda: len(joints) > SECONDS * JOINTS * 0.9)
    stamps = np.array([stamp for stamp, _ in joints])
    np.testing.assert_allclose(np.diff(stamps).min(), 1 / JOINTS / rate, atol=1e-5)
    assert stamps[0] >= began
    assert stamps[-1] - stamps[0] <= SECONDS / rate
    np.testing.assert_array_equal(joints[0][1], POSTURE)
    for stamp, arrival, frame in heard:
        assert arrival - stamp >= AGES["wrist"] / rate - 1e-3  # as old as it was, at the pace of the replay
        assert frame == "replay/base"
    listener.destroy_node()


def test_the_policy_cannot_tell_and_only_a_dry_run_follows(
    make: Callable[..., Any],
    spin: Callable[[Node], None],
    simulated: tuple[str, SimulatedPiper],
    eventually: Wait,
    tmp_path: Path,
) -> None:
    bus, arm = simulated
    bundle = write_toy_bundle(tmp_path / "toy", ramp=0.3)
    replay = make(ReplayNode, bag=str(write_bag(tmp_path / "bag")), loop=True)
    policy = make(PolicyNode, bundle=str(bundle), engine="onnxruntime", task="reach", observation_timeout=2.0)
    dry = make(
        ArmNode,
        can=bus,
        joint_states_topic="arm_node/joint_states",
        feedback_timeout=1.0,
        overrun_timeout=1.0,
        chunk_timeout=3.0,
        watchdogs=["policy=10.0"],
    )
    frames: list[str] = []
    dry.create_subscription(
        converters.JointTrajectory,
        "policy_node/action_chunk",
        lambda message: frames.append(message.header.frame_id),
        qos.CHUNK,
    )
    for node in (policy, dry, replay):
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.stopped.text
        node.trigger_activate()
        spin(node)
    enabled = dry._loop.ask(ArmController.request_enable).result(5.0)
    assert enabled is None
    eventually(lambda: dry.health().message == "HOLDING: enabled")
    assert dry._loop.ask(ArmController.request_resume).result(5.0) is None
    eventually(lambda: dry.health().message == "TRACKING: following chunks")
    eventually(lambda: len(frames) > 3)
    assert policy.health().message == "answering observations"
    assert set(frames) == {replayed.mark("")}
    eventually(lambda: replay._replay.passes >= 1)  # and it goes on from the beginning
    assert set(arm.audit.frames) <= {0x4AF}  # the question for its firmware
    np.testing.assert_allclose(arm._plant.positions[:6], [0.0, 1.0, -1.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "parameter bag is empty"),
        ({"bag": "nowhere"}, "nowhere cannot be read as a bag"),
        ({"bag": "{bag}", "topics": ["/front"]}, "has no images or joint states on /front; it has"),
        ({"bag": "{talk}"}, "has no images and no joint states; it has /chatter"),
    ],
)
def test_what_cannot_be_replayed_is_refused_with_one_line(
    make: Callable[..., Any], tmp_path: Path, given: dict[str, Any], line: str
) -> None:
    if "bag" in given:
        places = {"bag": write_bag(tmp_path / "bag"), "talk": write_bag(tmp_path / "talk", only="std_msgs/msg/String")}
        given = given | {"bag": given["bag"].format(**places)}
    node = make(ReplayNode, **given)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert line in str(node.stopped.text)


def test_some_topics_alone(make: Callable[..., Any], tmp_path: Path) -> None:
    node = make(ReplayNode, bag=str(write_bag(tmp_path / "bag")), topics=["/joint_states"])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.count_publishers("/joint_states") == 1
    assert node.count_publishers("/side/image_raw/compressed") == 0
