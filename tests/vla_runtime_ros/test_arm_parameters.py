from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_LIMITS
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
        if isinstance(parameter.default, (str, bool)):
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


@pytest.mark.parametrize(("driver", "line"), [("piper_ros", "not available yet"), ("ur5", "it can be sdk, piper_ros")])
def test_a_driver_there_is_not_is_refused(driver: str, line: str) -> None:
    arm_parameters.check_driver("sdk")
    with pytest.raises(BadInput, match=line):
        arm_parameters.check_driver(driver)
