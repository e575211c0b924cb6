"""What must be refused before anything is controlled: parameters and firmware that nobody should drive an arm with."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.parameter import Parameter

from tests.faults.world import World
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.safety.controller import ArmController
from vla_runtime_ros import arm_parameters, params

Attempt = Callable[[Bundle], None]


def configured(**given: Any) -> Attempt:
    """The arm node is configured with these parameters; ``__`` stands for the dot in a name."""

    def attempt(bundle: Bundle) -> None:
        context = rclpy.Context()
        rclpy.init(args=[], context=context, domain_id=random.randrange(1, 102))
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in given.items()]
        node = rclpy.create_node("arm_node", context=context, parameter_overrides=overrides)
        try:
            params.declare(node, arm_parameters.TABLE)

            def value(name: str) -> Any:
                return node.get_parameter(name).value

            limits, workspace = arm_parameters.limits(value), arm_parameters.workspace(value)
            ArmController(arm_parameters.settings(value), limits, workspace)
        finally:
            node.destroy_node()
            rclpy.shutdown(context=context)

    return attempt


def connected(firmware: str) -> Attempt:
    """The arm node connects to an arm that calls itself so."""

    def attempt(bundle: Bundle) -> None:
        world = World(bundle)
        world.arm.faults.firmware = firmware
        try:
            world.start_control()
        finally:
            world.close()

    return attempt
