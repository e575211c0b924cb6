"""The security policy allows exactly what the nodes do: too little would stop them, too much would protect nothing."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from tests.toy_bundle import write_toy_bundle
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.arms.simulated_piper import SimulatedPiper
from vla_runtime_ros.arm_node import ArmNode
from vla_runtime_ros.lifecycle import ManagedNode
from vla_runtime_ros.policy_node import PolicyNode
from vla_runtime_ros.replay_node import ReplayNode
from vla_runtime_ros.sim_node import SimNode

POLICY = Path(__file__).resolve().parents[2] / "ros2_ws/src/vla_runtime/config/security_policy.xml"
STORE = get_typestore(Stores.ROS2_KILTED)

Allowed = dict[tuple[str, str], set[str]]


def allowed(name: str) -> Allowed:
    """("topics", "publish") and so on → full names, of the profile of the node."""
    profiles = [profile for profile in ET.parse(POLICY).iter("profile") if profile.get("node") == name]
    (profile,) = profiles
    found: Allowed = {}
    for group in profile:
        ((how, verdict),) = group.attrib.items()
        assert verdict == "ALLOW"
        names = [(entry.text or "").replace("~", name) for entry in group]
        assert len(names) == len(set(names)), "named twice"
        found[(group.tag, how)] = {f"/{entry}" for entry in names}
    return found


def done(node: ManagedNode) -> Allowed:
    """What the node really does, by the graph."""
    name = node.get_name()
    kinds = {
        ("topics", "publish"): node.get_publisher_names_and_types_by_node,
        ("topics", "subscribe"): node.get_subscriber_names_and_types_by_node,
        ("services", "reply"): node.get_service_names_and_types_by_node,
        ("services", "request"): node.get_client_names_and_types_by_node,
    }
    found = {kind: {topic for topic, _ in ask(name, "/")} for kind, ask in kinds.items()}
    return {kind: names for kind, names in found.items() if names}


def write_bag(root: Path) -> Path:
    header = STORE.types["std_msgs/msg/Header"](STORE.types["builtin_interfaces/msg/Time"](1, 0), "")
    encoded = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].reshape(-1)
    none = np.array([], np.float64)
    image = STORE.types["sensor_msgs/msg/CompressedImage"](header, "png", encoded)
    state = STORE.types["sensor_msgs/msg/JointState"](header, list(JOINT_NAMES), np.zeros(7), none, none)
    messages = {f"/{camera}/image_raw/compressed": image for camera in ("side", "wrist")} | {"/joint_states": state}
    with Writer(root, version=9) as writer:
        for topic, message in messages.items():
            connection = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(connection, 10**9, STORE.serialize_cdr(message, message.__msgtype__))
    return root


@pytest.mark.parametrize("node_type", [ArmNode, PolicyNode, ReplayNode, SimNode])
def test_every_node_is_allowed_exactly_what_it_does(
    make: Callable[..., Any],
    node_type: type[ManagedNode],
    simulated: tuple[str, SimulatedPiper],
    eventually: Callable[[Callable[[], bool]], None],
    tmp_path: Path,
) -> None:
    given: dict[type[ManagedNode], dict[str, Any]] = {
        ArmNode: {"can": simulated[0]},
        PolicyNode: {"bundle": str(write_toy_bundle(tmp_path / "toy")), "engine": "onnxruntime"},
        ReplayNode: {"bag": str(write_bag(tmp_path / "bag"))},
        SimNode: {"can": "virtual:policy-test", "image_height": 16, "image_width": 16},
    }
    node = make(node_type, **given[node_type])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS, node.stopped.text
    time.sleep(0.2)  # the graph learns of it
    eventually(lambda: done(node) == allowed(node.get_name()))


def test_the_operator_may_ask_for_everything_the_nodes_answer_and_speaks_to_no_motor() -> None:
    operator = allowed("operator")
    for name in ("arm_node", "policy_node", "replay_node", "sim_node"):
        assert allowed(name)[("services", "reply")] <= operator[("services", "request")]
    assert operator[("topics", "publish")] == {"/policy_node/task", "/parameter_events", "/rosout"}
    only = {topic for name in ("arm_node", "policy_node") for topic in allowed(name)[("topics", "publish")]}
    assert only <= operator[("topics", "subscribe")]


def test_only_the_policy_may_publish_chunks() -> None:
    publishers = {
        profile.get("node")
        for profile in ET.parse(POLICY).iter("profile")
        if "/policy_node/action_chunk" in allowed(str(profile.get("node"))).get(("topics", "publish"), set())
    }
    assert publishers == {"policy_node"}
