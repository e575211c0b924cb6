from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_export.checkpoints import deployment
from vla_export.checkpoints.deployment import read_deployment
from vla_runtime.errors import BadInput

JOINT = {"name": "joint1", "unit": "rad", "lower": -2.6, "upper": 2.6}
GRIPPER = {"name": "gripper", "unit": "m"}
GOOD: dict[str, Any] = {"rate": 10, "state": [JOINT, GRIPPER], "action": [JOINT]}


def write(directory: Path, content: object) -> Path:
    (directory / "deployment.yaml").write_text(yaml.safe_dump(content))
    return directory


def test_rate_names_units_and_limits(tmp_path: Path) -> None:
    found = read_deployment(write(tmp_path, GOOD), 2, 1)
    assert found.rate == 10.0
    assert [(d.name, d.unit, d.lower, d.upper) for d in found.state] == [
        ("joint1", "rad", -2.6, 2.6),
        ("gripper", "m", None, None),
    ]


def test_a_missing_file_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        read_deployment(tmp_path, 7, 6)
    message = str(raised.value)
    for part in ("no deployment.yaml", "rate:", "a list of 7", "a list of 6", "unit: rad"):
        assert part in message


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": float("inf")}, "rate"),
        ({"state": [JOINT]}, "state has 1 entries, the policy's state has 2"),
        ({"action": [{"name": "joint1", "unit": "degrees"}]}, "action.0.unit"),
        ({"state": [JOINT, JOINT]}, "same name"),
        ({"speed": 3}, "speed"),
        ({"quantity": {"action": "tool"}}, "quantity.action"),
        ({"relative_actions": ["gripper"]}, "relative_actions names gripper, the action has joint1"),
        ({"relative_actions": ["joint1"], "state": [GRIPPER, JOINT]}, "at its place the state has no joint1"),
        ({"relative_actions": ["joint1"], "action": [JOINT | {"unit": "deg"}]}, "no joint1 in the same unit"),
        ({"cameras": {"top": "side", "wrist": "side"}}, "two cameras get the same name"),
        ({"cameras": {"top": "side"}, "missing_cameras": ["top"]}, "both missing and renamed"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        read_deployment(write(tmp_path, GOOD | change), 2, 1)


@pytest.mark.parametrize("text", ["[1, 2]", "rate: [", "just words"])
def test_no_mapping(tmp_path: Path, text: str) -> None:
    (tmp_path / "deployment.yaml").write_text(text)
    with pytest.raises(BadInput, match="deployment.yaml"):
        read_deployment(tmp_path, 2, 1)


@pytest.mark.parametrize("unit", ["rad", "deg", "0.001deg", "m", "mm", "0.001mm", 1])
def test_every_unit_is_known_as_one_writes_it(tmp_path: Path, unit: object) -> None:
    entry = {"name": "joint1", "unit": unit}
    found = read_deployment(write(tmp_path, {"rate": 5, "state": [entry], "action": [entry]}), 1, 1)
    assert found.state[0].unit == str(unit)


def test_what_is_not_said_is_plain(tmp_path: Path) -> None:
    found = read_deployment(write(tmp_path, GOOD), 2, 1)
    assert (found.quantity.state, found.quantity.action) == ("joints", "joints")
    assert found.relative_actions is None
    assert found.relative() == ()
    assert found.robot_cameras(("side", "wrist")) == {"side": "side", "wrist": "wrist"}


def test_an_end_pose_relative_actions_and_other_cameras(tmp_path: Path) -> None:
    content = GOOD | {
        "action": [JOINT, GRIPPER],
        "quantity": {"action": "end_pose"},
        "relative_actions": ["joint1"],
        "cameras": {"top": "side"},
        "missing_cameras": ["right_wrist"],
    }
    found = read_deployment(write(tmp_path, content), 2, 2)
    assert (found.quantity.state, found.quantity.action) == ("joints", "end_pose")
    assert found.relative() == (True, False)
    assert found.robot_cameras(("top", "right_wrist", "wrist")) == {"top": "side", "wrist": "wrist"}


def test_the_documented_example_is_one(tmp_path: Path) -> None:
    text = "\n".join(line[4:] for line in (deployment.__doc__ or "").splitlines() if line.startswith("    "))
    (tmp_path / "deployment.yaml").write_text(text)
    found = read_deployment(tmp_path, 2, 2)
    assert found.state[0].unit == "0.001deg"
    assert found.relative() == (True, False)


@pytest.mark.parametrize(
    ("cameras", "complaint"),
    [
        (("side", "wrist"), "missing_cameras names front; the policy's cameras are side, wrist"),
        (("front",), "at least one"),
        (("front", "top", "side"), "cameras gives a camera the name of another one: side, side"),
        (("front", "side"), "cameras names top"),
    ],
)
def test_cameras_that_do_not_fit_the_policy(tmp_path: Path, cameras: tuple[str, ...], complaint: str) -> None:
    content = GOOD | {"missing_cameras": ["front"]} | ({"cameras": {"top": "side"}} if len(cameras) > 1 else {})
    found = read_deployment(write(tmp_path, content), 2, 1)
    with pytest.raises(BadInput, match=complaint):
        found.robot_cameras(cameras)
