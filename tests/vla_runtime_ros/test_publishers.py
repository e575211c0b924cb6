"""Two publishers on one topic, over real DDS."""

from __future__ import annotations

import time
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from trajectory_msgs.msg import JointTrajectory

from vla_runtime_ros import qos
from vla_runtime_ros.publishers import Publishers


def test_each_is_named_by_what_came_with_its_message(ros: None) -> None:
    nodes = {name: rclpy.create_node(name, namespace="left") for name in ("listener", "one", "two")}
    listener = nodes["listener"]
    publishers = Publishers(listener, "chunks")
    heard: list[tuple[str, dict[str, Any]]] = []

    def on_chunk(message: JointTrajectory, info: dict[str, Any]) -> None:
        heard.append((message.header.frame_id, info))

    listener.create_subscription(JointTrajectory, "chunks", on_chunk, qos.CHUNK)
    outlets = {name: nodes[name].create_publisher(JointTrajectory, "chunks", qos.CHUNK) for name in ("one", "two")}
    executor = SingleThreadedExecutor()
    executor.add_node(listener)
    deadline = time.monotonic() + 10.0
    while {frame for frame, _ in heard} != {"one", "two"}:
        assert time.monotonic() < deadline
        for name, outlet in outlets.items():
            message = JointTrajectory()
            message.header.frame_id = name
            outlet.publish(message)
        executor.spin_once(timeout_sec=0.1)
    for frame, info in heard:
        name, doubt = publishers.of(info)
        assert name.startswith(f"/left/{frame} (")
        assert doubt is None
    assert len({publishers.of(info)[0] for _, info in heard}) == 2
    # A release of rclpy that does not tell: nobody is believed while two publish.
    _, doubt = publishers.of({"source_timestamp": 0})
    assert doubt == "/left/one and /left/two publish on /left/chunks: stop all but one"
    executor.shutdown()
    for node in nodes.values():
        node.destroy_node()
