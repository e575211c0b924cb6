from __future__ import annotations

import numpy as np
import pytest

from vla_runtime.errors import BadInput
from vla_runtime.safety.controller import ArmController, ControlSettings
from vla_runtime.safety.limits import PIPER_LIMITS


@pytest.mark.parametrize(
    "name",
    ["period", "chunk_timeout", "feedback_timeout", "max_future", "divergence", "overrun_timeout", "enable_interval"],
)
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_times_and_tolerances_are_positive_and_finite(name, value):
    with pytest.raises(BadInput, match=f"{name} must be a finite number above 0"):
        ControlSettings(**{name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"park_speed": 1.5}, "park_speed is a fraction"),
        ({"arrival_tolerance": 0.3}, "arrival_tolerance .* must be below divergence"),
        ({"period": 0.3}, "max_gap .* must be above two periods"),
        ({"watchdogs": {"camera side": 0.0}}, "watchdogs of camera side must be a finite number above 0, got 0.0"),
        ({"chunk_takeover": "jump"}, "chunk takeover 'jump' is unknown"),
        ({"takeover_window": 0.0}, "takeover window must be"),
        ({"ensemble_decay": -1.0}, "ensemble decay must be"),
        ({"interpolation": "none"}, "interpolation 'none' is unknown"),
        ({"park_positions": [0.0] * 6}, "park_positions must be seven numbers"),
        ({"park_positions": [np.nan] * 7}, "park_positions of joint1 must be a finite number"),
    ],
)
def test_settings_that_contradict_are_refused(values, message):
    with pytest.raises(BadInput, match=message):
        ControlSettings(**values)


def test_a_park_position_outside_the_limits_is_refused_by_joint():
    settings = ControlSettings(park_positions=[0, 0, 0.1, 0, 0, 0, 0])
    with pytest.raises(BadInput, match=r"park_positions of joint3: 0.1 is outside its limits -2.967 … 0 rad"):
        ArmController(settings, PIPER_LIMITS)


def test_watchdogs_are_the_settings_own():
    mine = {"policy": 0.5}
    settings = ControlSettings(watchdogs=mine)
    mine["camera"] = 0.1
    assert dict(settings.watchdogs) == {"policy": 0.5}
    with pytest.raises(TypeError):
        settings.watchdogs["camera"] = 0.1
