from __future__ import annotations

from pathlib import Path

import pytest

from vla_calibration.node_parameters import node_parameters
from vla_runtime.errors import BadInput


def test_the_nodes_defaults(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    values = node_parameters(tmp_path, skip="metadata.yaml")
    assert values["joint_states_topic"] == "joint_states"
    assert values["observation_timeout"] == 0.5
    assert values["camera_topics"] == [""]


@pytest.mark.parametrize("node", ["policy_node", "/policy_node", "/left/policy_node", "/**/policy_node"])
def test_a_parameter_file_of_the_node(tmp_path: Path, node: str) -> None:
    (tmp_path / "robot.yaml").write_text(
        f"{node}:\n  ros__parameters:\n    observation_timeout: 0.2\n"
        "/**/arm_node:\n  ros__parameters:\n    joint_states_topic: elsewhere\n"
    )
    values = node_parameters(tmp_path, skip="metadata.yaml")
    assert (values["observation_timeout"], values["joint_states_topic"]) == (0.2, "joint_states")


def test_the_file_that_the_launch_takes_is_understood(tmp_path: Path) -> None:
    config = Path(__file__).parents[2] / "ros2_ws/src/vla_runtime/config/piper_policy.yaml"
    (tmp_path / "robot.yaml").write_text(config.read_text(encoding="utf-8"))
    expected = node_parameters(tmp_path / "nothing", skip="metadata.yaml")
    assert node_parameters(tmp_path, skip="metadata.yaml") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("policy_node: {ros__parameters: {timeout: 0.2}}", "policy_node has no parameter timeout; it has bundle,"),
        (
            "policy_node: {ros__parameters: {joint_states_topic: 3}}",
            "joint_states_topic of policy_node is 3; expected a str",
        ),
        ("policy_node: [", "robot.yaml cannot be read as YAML"),
    ],
)
def test_a_file_the_node_would_refuse(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "robot.yaml").write_text(content)
    with pytest.raises(BadInput, match=message):
        node_parameters(tmp_path, skip="metadata.yaml")
