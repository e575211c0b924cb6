from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from vla_runtime.errors import BadInput
from vla_runtime_ros import params
from vla_runtime_ros.params import NO_STRINGS, Parameter

TABLE = (
    Parameter("rate", 100.0, "Commands per second [Hz].", (10.0, 500.0)),
    Parameter("priority", 50, "Priority.", (0, 90)),
    Parameter("limits", [0.0] * 7, "Limits [rad].", (-1.0, 1.0)),
    Parameter("topics", NO_STRINGS, "CAMERA=TOPIC."),
    Parameter("live", 1.0, "May change.", (0.0, 2.0), read_only=False),
)


@pytest.fixture
def declared(ros: None) -> Callable[..., Node]:
    def make(**overrides: Any) -> Node:
        node = rclpy.create_node(
            "n", parameter_overrides=[RosParameter(name, value=value) for name, value in overrides.items()]
        )
        params.declare(node, TABLE)
        return node

    return make


def test_defaults_and_overrides(declared: Callable[..., Node]) -> None:
    node = declared(rate=200.0)
    assert node.get_parameter("rate").value == 200.0
    assert list(node.get_parameter("limits").value) == [0.0] * 7
    assert node.get_parameter("topics").value == [""]


def test_every_parameter_describes_itself(declared: Callable[..., Node]) -> None:
    node = declared()
    for parameter in TABLE:
        descriptor = node.describe_parameter(parameter.name)
        assert descriptor.description == parameter.description
        assert descriptor.read_only == parameter.read_only
    assert node.describe_parameter("rate").floating_point_range[0].to_value == 500.0
    assert node.describe_parameter("priority").integer_range[0].to_value == 90


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rate", 501.0, "a number with a decimal point from 10 to 500"),
        ("rate", 9.9, "a number with a decimal point from 10 to 500"),
        ("rate", 100, "a number with a decimal point"),
        ("rate", "fast", "a number with a decimal point"),
        ("priority", 91, "an integer from 0 to 90"),
        ("limits", [0.0] * 6 + [1.1], "a list of 7 numbers with decimal points from -1 to 1"),
        ("limits", [0.0] * 6, "a list of 7 numbers"),
        ("limits", [0.0] * 6 + [float("nan")], "a list of 7 numbers"),
        ("topics", 3, "a list of strings"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_one_line(
    declared: Callable[..., Node], name: str, value: Any, expected: str
) -> None:
    with pytest.raises(BadInput, match=f"parameter {name} of /n") as refusal:
        declared(**{name: value})
    assert expected in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_mistyped_name_is_refused(declared: Callable[..., Node]) -> None:
    with pytest.raises(BadInput, match="/n has no parameter chunk_timout; it has .*limits.*rate"):
        declared(chunk_timout=0.2)


def test_read_only_parameters_stay_and_live_ones_stay_in_range(declared: Callable[..., Node]) -> None:
    node = declared()
    (fixed,) = node.set_parameters([RosParameter("rate", value=50.0)])
    (moved,) = node.set_parameters([RosParameter("live", value=2.0)])
    (beyond,) = node.set_parameters([RosParameter("live", value=2.1)])
    assert (fixed.successful, moved.successful, beyond.successful) == (False, True, False)
    assert node.get_parameter("live").value == 2.0


def test_pairs() -> None:
    assert params.pairs("p", [""]) == {}
    assert params.pairs("p", ["side=/a/b", "wrist=/c"]) == {"side": "/a/b", "wrist": "/c"}


@pytest.mark.parametrize("entries", [["side"], ["=x"], ["side="], ["side=/a", "side=/b"]])
def test_pairs_that_are_none_are_refused(entries: list[str]) -> None:
    with pytest.raises(BadInput, match="camera_topics"):
        params.pairs("camera_topics", entries)
