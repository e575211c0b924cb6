"""The node in this process: what it refuses to be configured with, and how it names what it would take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rclpy.lifecycle import TransitionCallbackReturn

from tests.toy_bundle import write_toy_bundle
from vla_runtime.errors import BadInput
from vla_runtime_ros import policy_node
from vla_runtime_ros.params import Parameter
from vla_runtime_ros.policy_node import PolicyNode

Configure = Callable[..., tuple[TransitionCallbackReturn, str | None]]


@pytest.fixture
def configure(ros: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    bundle = write_toy_bundle(tmp_path / "toy")
    nodes: list[PolicyNode] = []

    def run(**overrides: Any) -> tuple[TransitionCallbackReturn, str | None]:
        given = {"bundle": str(bundle), "engine": "onnxruntime", **overrides}
        table = tuple(
            Parameter(p.name, given.get(p.name, p.default), p.description, p.span) for p in PolicyNode.PARAMETERS
        )
        monkeypatch.setattr(PolicyNode, "PARAMETERS", table)
        node = PolicyNode()
        nodes.append(node)
        return node.trigger_configure(), node.stopped.text

    yield run
    for node in nodes:
        node.close("test ends")
        node.destroy_node()


def test_a_sound_bundle_configures(configure: Configure) -> None:
    assert configure() == (TransitionCallbackReturn.SUCCESS, None)


def test_a_policy_that_speaks_the_sdks_integers_drives_the_same_arm(configure: Configure, tmp_path: Path) -> None:
    integers = write_toy_bundle(tmp_path / "integers", units=("0.001deg", "0.001mm"))
    assert configure(bundle=str(integers)) == (TransitionCallbackReturn.SUCCESS, None)


def test_a_policy_of_the_end_pose_is_refused(configure: Configure, tmp_path: Path) -> None:
    pose = write_toy_bundle(tmp_path / "pose", quantity="end_pose")
    outcome, reason = configure(bundle=str(pose))
    assert outcome == TransitionCallbackReturn.FAILURE
    assert "the policy's action is the pose of the end effector" in str(reason)
    assert "inverse kinematics is not there yet" in str(reason)


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ({"camera_topics": ["front=/front/image_raw/compressed"]}, "'front'; this policy knows side, wrist"),
        ({"image_transport": "theora"}, "it can be compressed or raw"),
        ({"engine": "caffe"}, "'caffe' is unknown"),
        ({"precision": "fp8"}, "it can be auto, fp32, fp16"),
        ({"bundle": "/nowhere"}, "/nowhere is not a policy bundle"),
    ],
)
def test_what_does_not_fit_fails_the_transition_with_one_line(
    configure: Configure, overrides: dict[str, Any], line: str
) -> None:
    outcome, reason = configure(**overrides)
    assert outcome == TransitionCallbackReturn.FAILURE
    assert line in str(reason)


def test_cameras_are_listened_to_where_the_user_says_else_under_their_name() -> None:
    topics = policy_node.camera_topics(["side", "wrist"], ["side=/camera/color/image_raw"], "image_raw/compressed")
    assert topics == {"side": "/camera/color/image_raw", "wrist": "wrist/image_raw/compressed"}


def test_a_policy_for_another_arm_is_refused() -> None:
    with pytest.raises(BadInput, match="no joint2, joint3"):
        policy_node.require_all_joints(["joint1", "gripper"])
