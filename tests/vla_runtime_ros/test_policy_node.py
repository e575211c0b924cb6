"""The node in this process: what it refuses to be configured with, and how it names what it would take."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter

from tests.toy_bundle import write_toy_bundle
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput
from vla_runtime_ros import converters, heartbeat, qos, replayed
from vla_runtime_ros.arm_space import require_all_joints
from vla_runtime_ros.policy_node import PolicyNode

Configure = Callable[..., tuple[TransitionCallbackReturn, str | None]]


@pytest.fixture
def configure(make: Callable[..., PolicyNode], tmp_path: Path) -> Configure:
    bundle = write_toy_bundle(tmp_path / "toy")

    def run(**overrides: Any) -> tuple[TransitionCallbackReturn, str | None]:
        node = make(PolicyNode, **{"bundle": str(bundle), "engine": "onnxruntime", **overrides})
        return node.trigger_configure(), node.stopped.text

    return run


def test_a_sound_bundle_configures(configure: Configure) -> None:
    assert configure() == (TransitionCallbackReturn.SUCCESS, None)


def test_a_policy_that_speaks_the_sdks_integers_drives_the_same_arm(configure: Configure, tmp_path: Path) -> None:
    integers = write_toy_bundle(tmp_path / "integers", units=("0.001deg", "0.001mm"))
    assert configure(bundle=str(integers)) == (TransitionCallbackReturn.SUCCESS, None)


def test_a_state_that_is_called_a_pose_but_is_none_is_refused(configure: Configure, tmp_path: Path) -> None:
    pose = write_toy_bundle(tmp_path / "pose", quantity="end_pose")
    outcome, reason = configure(bundle=str(pose))
    assert outcome == TransitionCallbackReturn.FAILURE
    assert "a pose of this arm is x, y, z, rx, ry, rz, gripper" in str(reason)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"camera_topics": ["front=/front/image_raw/compressed"]}, "'front'; this policy knows side, wrist"),
        ({"image_transport": "theora"}, "it can be compressed or raw"),
        ({"engine": "caffe"}, "'caffe' is unknown"),
        ({"precision": "fp8"}, "it can be auto, fp32, fp16"),
        ({"camera_offsets": ["side=late"]}, "camera_offsets of side is 'late', expected seconds such as -0.045"),
        ({"camera_offsets": ["side=45"]}, "camera_offsets of side is 45 s, expected at most 1 s either way"),
        ({"camera_offsets": ["front=0.1"]}, "'front'; this policy knows side, wrist"),
        ({"rtc.form": "soft"}, "the form 'soft' is none of hard, identity, guided"),
        ({"rtc.form": "guided"}, "cannot do guided real-time chunking"),
        ({"bundle": "/nowhere"}, "/nowhere is not a policy bundle"),
    ],
)
def test_what_does_not_fit_fails_the_transition_with_one_line(
    configure: Configure, overrides: dict[str, Any], line: str
) -> None:
    outcome, reason = configure(**overrides)
    assert outcome == TransitionCallbackReturn.FAILURE
    assert line in str(reason)


def test_a_policy_for_another_arm_is_refused() -> None:
    with pytest.raises(BadInput, match="no joint2, joint3"):
        require_all_joints(["joint1", "gripper"])


class Robot:
    """Two cameras and joints, from a node of its own; the joints stand still."""

    def __init__(self, spin: Callable[[Node], None]) -> None:
        self.node = rclpy.create_node("robot")
        self._cameras = [
            self.node.create_publisher(converters.CompressedImage, f"{name}/image_raw/compressed", qos.IMAGE_SOURCE)
            for name in ("side", "wrist")
        ]
        self._joints = self.node.create_publisher(converters.JointState, "joint_states", qos.JOINT_STATE_SOURCE)
        self.frame = ""
        self.chunks: list[converters.JointTrajectory] = []
        self.beats: list[heartbeat.DiagnosticArray] = []
        self.node.create_subscription(
            converters.JointTrajectory, "policy_node/action_chunk", self.chunks.append, qos.CHUNK
        )
        self.node.create_subscription(
            heartbeat.DiagnosticArray, "policy_node/heartbeat", self.beats.append, qos.HEARTBEAT
        )
        self.node.create_timer(0.05, self._publish)
        spin(self.node)

    def _publish(self) -> None:
        now = time.time()
        state = converters.joint_state(now, JOINT_NAMES, np.array([0.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.03]))
        state.header.frame_id = self.frame
        self._joints.publish(state)
        for camera in self._cameras:
            camera.publish(converters.compressed_from_rgb(np.full((32, 32, 3), 90, np.uint8), now, self.frame, 90))


@pytest.mark.parametrize("form", ["identity", "guided"])
def test_it_answers_says_what_it_sees_and_takes_another_task_and_pace_while_it_runs(
    form: str,
    make: Callable[..., PolicyNode],
    spin: Callable[[Node], None],
    eventually: Callable[[Callable[[], bool]], None],
    tmp_path: Path,
) -> None:
    bundle = write_toy_bundle(tmp_path / "toy", guided=form == "guided")
    node = make(
        PolicyNode,
        bundle=str(bundle),
        engine="onnxruntime",
        task="reach the red cube",
        observation_timeout=2.0,
        **{"rtc.form": form},
    )
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    spin(node)
    robot = Robot(spin)
    time.sleep(0.3)
    assert robot.beats == []  # it thinks of nothing yet
    node.trigger_activate()
    eventually(lambda: len(robot.chunks) > 3)
    eventually(lambda: "rtc_frozen" in node.health().values)
    assert {chunk.header.frame_id for chunk in robot.chunks} == {""}
    signs = heartbeat.signs_of_life(robot.beats[-1])
    assert set(signs) == {"policy", "side", "wrist"}
    assert signs["policy"] >= signs["side"]
    assert node.health().values["camera_spread_s"] == 0.0
    # A replay is told apart from the robot, until the last of it is forgotten.
    robot.frame = replayed.mark("side")
    eventually(lambda: robot.chunks[-1].header.frame_id == replayed.mark(""))
    robot.frame = ""
    eventually(lambda: robot.chunks[-1].header.frame_id == "")

    # Another pace, offsets and task; none of them where one does not fit.
    def change(**values: Any) -> Any:
        return node.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])

    refused = change(chunk_rate=0.5, camera_offsets=["side=late"])
    assert (refused.successful, "'late'" in refused.reason) == (False, True)
    assert node._loop.period == 0.0
    assert change(chunk_rate=0.5, camera_offsets=["side=-0.01"], task="").successful
    assert node._loop.period == 2.0
    eventually(lambda: "task refused" in node.health().message)
    assert change(task="grasp").successful
    count = len(robot.chunks)
    eventually(lambda: len(robot.chunks) > count)
    assert node.health().values["camera_spread_s"] == pytest.approx(0.01, abs=1e-6)
    node.trigger_deactivate()
    beats = len(robot.beats)
    time.sleep(0.3)
    assert len(robot.beats) <= beats + 1
    robot.node.destroy_node()
