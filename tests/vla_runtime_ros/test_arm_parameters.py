from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.workspace import PIPER_WORKSPACE
from vla_runtime_ros import arm_parameters

DEFAULTS: dict[str, Any] = {parameter.name: parameter.default for parameter in arm_parameters.TABLE}


def test_the_defaults_are_the_safety_layers_own() -> None:
    settings = arm_parameters.settings(DEFAULTS.__getitem__)
    limits = arm_parameters.limits(DEFAULTS.__getitem__)
    assert settings.period == pytest.approx(0.01)
    np.testing.assert_array_equal(limits.lower, PIPER_LIMITS.lower)
    np.testing.assert_array_equal(limits.upper, PIPER_LIMITS.upper)
    np.testing.assert_array_equal(limits.velocity, PIPER_LIMITS.velocity)


def test_every_number_has_a_range_that_its_default_is_in() -> None:
    for parameter in arm_parameters.TABLE:
        if isinstance(np.ravel(parameter.default)[0], (str, bool, np.bool_)):
            continue
        assert parameter.span is not None, parameter.name
        low, high = parameter.span
        assert np.all((np.asarray(parameter.default) >= low) & (np.asarray(parameter.default) <= high)), parameter.name


def test_wider_limits_take_the_users_word() -> None:
    wider = {**DEFAULTS, "limits.upper": [2.6179, 3.14, 0.0, 1.9, 1.22, 1.745, 0.07]}
    with pytest.raises(BadInput, match="joint4"):
        arm_parameters.limits(wider.__getitem__)
    limits = arm_parameters.limits({**wider, "limits.allow_wider": True}.__getitem__)
    assert limits.upper[3] == 1.9


def test_a_setting_reaches_the_controller_under_its_own_name() -> None:
    settings = arm_parameters.settings({**DEFAULTS, "chunk_timeout": 0.3, "control_rate": 200.0}.__getitem__)
    assert (settings.chunk_timeout, settings.period) == (0.3, pytest.approx(0.005))


def test_everything_dangerous_is_off_and_stays_as_it_was_started() -> None:
    table = {parameter.name: parameter for parameter in arm_parameters.TABLE}
    assert table["dry_run"].default is True
    assert [name for name, parameter in table.items() if not parameter.read_only] == ["command_decimation"]


def test_the_limits_and_the_workspace_are_the_safety_layers_own() -> None:
    limits = arm_parameters.limits(DEFAULTS.__getitem__)
    np.testing.assert_array_equal(limits.acceleration, PIPER_LIMITS.acceleration)
    np.testing.assert_array_equal(limits.jerk, PIPER_LIMITS.jerk)
    workspace = arm_parameters.workspace({**DEFAULTS, "workspace.table_height": -0.1}.__getitem__)
    assert workspace.table_height == -0.1
    np.testing.assert_array_equal(workspace.upper, PIPER_WORKSPACE.upper)
    with pytest.raises(BadInput, match="workspace x from"):
        arm_parameters.workspace({**DEFAULTS, "workspace.lower": [1.0, 0.0, 0.0]}.__getitem__)


def test_what_is_watched_by_default_is_the_policy() -> None:
    assert dict(arm_parameters.settings(DEFAULTS.__getitem__).watchdogs) == {"policy": 1.0}
    given = {**DEFAULTS, "watchdogs": ["policy=0.5", "side=0.3"]}
    assert dict(arm_parameters.settings(given.__getitem__).watchdogs) == {"policy": 0.5, "side": 0.3}
    assert arm_parameters.watchdogs([""]) == {}
