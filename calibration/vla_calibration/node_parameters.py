"""The parameters of the policy node, for a bag that was recorded beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vla_runtime.errors import BadInput

_NODE = "policy_node"


def node_parameters(directory: Path, skip: str) -> dict[str, Any]:
    """Every parameter of the node, by name: its default, or its value in a parameter file in ``directory``.

    skip: the name of a YAML file that is no parameter file. Raises `BadInput` for a file that cannot be read, a name
    that the node does not have and a value of another type than its default.
    """
    try:
        from vla_runtime_ros.policy_node import PolicyNode
    except ImportError as error:
        raise BadInput(
            f"reading a bag needs ROS 2's Python packages and the package vla_runtime ({error}): source the workspace "
            "first, or set up this project's workstation environment"
        ) from error

    table = (*PolicyNode.COMMON, *PolicyNode.PARAMETERS)
    values: dict[str, Any] = {parameter.name: parameter.default for parameter in table}
    for path in sorted(directory.glob("*.yaml")):
        if path.name == skip:
            continue
        for name, value in _given(path).items():
            if name not in values:
                raise BadInput(f"{path}: {_NODE} has no parameter {name}; it has {', '.join(sorted(values))}")
            if not isinstance(value, type(values[name])):
                expected = type(values[name]).__name__
                raise BadInput(f"{path}: parameter {name} of {_NODE} is {value!r}; expected a {expected}")
            values[name] = value
    return values


def _given(path: Path) -> dict[str, Any]:
    """What a parameter file says of the node, in whatever namespace."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path} cannot be read as YAML ({error})") from error
    given: dict[str, Any] = {}
    for node, section in content.items() if isinstance(content, dict) else ():
        if str(node).rsplit("/", 1)[-1] == _NODE and isinstance(section, dict):
            given |= _flat(section.get("ros__parameters") or {})
    return given


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"rtc": {"form": …}}`` → ``{"rtc.form": …}``, as ROS names it."""
    flat: dict[str, Any] = {}
    for name, value in section.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
