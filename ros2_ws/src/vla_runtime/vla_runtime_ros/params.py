"""Parameters as small tables: every one has a description, and a range or an idea of what it may be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.node import Node

from vla_runtime.errors import BadInput

NO_STRINGS = [""]
"""The empty list of strings: neither parameter files nor rclpy can type an empty one."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    default: its value where the user gives none; its type is the parameter's type.
    span: the smallest and the largest number allowed, for a number or for each entry of a list of numbers.
    read_only: fixed once the node is up. All are, unless the node really looks again, and what it looks at is safe to
        change under a moving arm.
    """

    name: str
    default: bool | int | float | str | list[float] | list[str]
    description: str
    span: tuple[float, float] | None = None
    read_only: bool = True

    def descriptor(self) -> ParameterDescriptor:
        """What `ros2 param describe` shows, and what rclpy holds the user to."""
        descriptor = ParameterDescriptor(name=self.name, description=self.description, read_only=self.read_only)
        if self.span is not None and isinstance(self.default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(self.span[0]), to_value=int(self.span[1]), step=0)]
        elif self.span is not None and isinstance(self.default, float):
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=self.span[0], to_value=self.span[1], step=0.0)
            ]
        elif self.span is not None:
            descriptor.additional_constraints = f"each entry from {self.span[0]:g} to {self.span[1]:g}"
        return descriptor


_REFUSALS = (InvalidParameterTypeException, InvalidParameterValueException, ParameterUninitializedException)


def declare(node: Node, table: Iterable[Parameter]) -> None:
    """Declare every parameter of ``table``.

    Raises `BadInput` for a value of the wrong type or out of range, and for a parameter that the node does not have: a
    mistyped timeout must not leave the default in force without a word.
    """
    for parameter in table:
        try:
            value: Any = node.declare_parameter(parameter.name, parameter.default, parameter.descriptor()).value
        except _REFUSALS as error:
            raise BadInput(
                f"parameter {parameter.name} of {node.get_fully_qualified_name()}: {error}; "
                f"expected {_expectation(parameter)}"
            ) from error
        _check_entries(node, parameter, value)
    unknown = [name for name in node._parameter_overrides if not node.has_parameter(name)]
    if unknown:
        raise BadInput(
            f"{node.get_fully_qualified_name()} has no parameter {', '.join(unknown)}; "
            f"it has {', '.join(sorted(node._parameters))}"
        )


def check_change(table: Iterable[Parameter], changes: Mapping[str, Any]) -> None:
    """Raises `BadInput` for a value that a running node cannot take; what rclpy judges itself is not judged again."""
    for parameter in table:
        if parameter.name in changes and not _fits(parameter, changes[parameter.name]):
            raise BadInput(f"{parameter.name} is {changes[parameter.name]!r}; expected {_expectation(parameter)}")


def _check_entries(node: Node, parameter: Parameter, value: Any) -> None:
    if not _fits(parameter, value):
        given = list(value) if isinstance(parameter.default, list) else value
        raise BadInput(
            f"parameter {parameter.name} of {node.get_fully_qualified_name()} is {given}; "
            f"expected {_expectation(parameter)}"
        )


def _fits(parameter: Parameter, value: Any) -> bool:
    """What the descriptor cannot say: the entries of a list, how many they are, and that a number is one."""
    if parameter.span is None:
        return not isinstance(value, float) or math.isfinite(value)
    low, high = parameter.span
    if isinstance(parameter.default, list):
        return len(value) == len(parameter.default) and all(low <= x <= high for x in value)
    return bool(low <= value <= high)


def _expectation(parameter: Parameter) -> str:
    kinds = {bool: "true or false", int: "an integer", float: "a number with a decimal point", str: "a string"}
    default = parameter.default
    if isinstance(default, list):
        what = f"a list of {len(default)} numbers with decimal points" if parameter.span else "a list of strings"
    else:
        what = kinds[type(default)]
    return what if parameter.span is None else f"{what} from {parameter.span[0]:g} to {parameter.span[1]:g}"


def pairs(name: str, entries: Iterable[str]) -> dict[str, str]:
    """``["side=/camera/image_raw"]`` → ``{"side": "/camera/image_raw"}``; empty strings stand for nothing.

    Raises `BadInput`, naming the parameter ``name``, for an entry that is not NAME=VALUE or a name given twice.
    """
    out: dict[str, str] = {}
    for entry in entries:
        if not entry:
            continue
        key, sign, value = entry.partition("=")
        if not sign or not key or not value:
            raise BadInput(f"{name}: {entry!r} is not NAME=VALUE, for instance side=/camera/color/image_raw")
        if key in out:
            raise BadInput(f"{name}: {key!r} is given twice")
        out[key] = value
    return out
