from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

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
        ({"action": [{"name": "joint1", "unit": "deg"}]}, "action.0.unit"),
        ({"state": [JOINT, JOINT]}, "same name"),
        ({"speed": 3}, "speed"),
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
