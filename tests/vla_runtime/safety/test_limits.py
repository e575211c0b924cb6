from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_HARDWARE, PIPER_LIMITS, ArmLimits, check_gripper_effort, piper_limits

# Both tables as published; the gripper's row is the standard gripper's stroke.
PIPER_SDK = [(-2.6179, 2.6179), (0, 3.14), (-2.967, 0), (-1.745, 1.745), (-1.22, 1.22), (-2.09439, 2.09439), (0, 0.07)]
PIPER_CONTROL = [(-2.687, 2.687), (0, 3.403), (-3.054, 0), (-1.745, 1.954), (-1.309, 1.309), (-1.745, 1.745), (0, 0.07)]


def changed(values, index, value):
    return [value if i == index else v for i, v in enumerate(values)]


@pytest.mark.parametrize("published", [PIPER_SDK, PIPER_CONTROL])
def test_the_default_lies_inside_every_published_range(published):
    for (low, high), lower, upper in zip(published, PIPER_LIMITS.lower, PIPER_LIMITS.upper, strict=True):
        assert low <= lower < upper <= high


def test_the_default_gives_away_nothing_both_publishers_allow():
    for i, ((a, b), (c, d)) in enumerate(zip(PIPER_SDK, PIPER_CONTROL, strict=True)):
        assert PIPER_LIMITS.lower[i] == max(a, c)
        assert PIPER_LIMITS.upper[i] == min(b, d)


def test_default_speed_is_below_what_the_joints_can_be_set_to():
    assert np.all(PIPER_LIMITS.velocity < PIPER_HARDWARE.velocity)
    assert np.all(PIPER_HARDWARE.velocity[:6] == 3.0)


def test_narrowing_is_free():
    limits = piper_limits(lower=changed(PIPER_LIMITS.lower, 0, -0.5), velocity=[0.2] * 6 + [0.05])
    assert limits.lower[0] == -0.5
    assert_array_equal(limits.upper, PIPER_LIMITS.upper)
    assert_array_equal(limits.velocity, [0.2] * 6 + [0.05])


def test_widening_is_refused_unless_asked_for():
    upper = changed(PIPER_LIMITS.upper, 3, 1.9)
    with pytest.raises(BadInput, match=r"joint4: upper 1.9 rad is beyond 1.745 rad: set allow_wider"):
        piper_limits(upper=upper)
    assert piper_limits(upper=upper, allow_wider=True).upper[3] == 1.9


def test_a_faster_arm_is_refused_unless_asked_for():
    with pytest.raises(BadInput, match=r"joint1: velocity 2 rad/s is beyond 1 rad/s: set allow_wider"):
        piper_limits(velocity=[2.0] * 6 + [0.1])
    assert piper_limits(velocity=[2.0] * 6 + [0.1], allow_wider=True).velocity[0] == 2.0


def test_a_jerkier_arm_is_refused_unless_asked_for():
    with pytest.raises(BadInput, match=r"joint1: jerk 300 rad/s³ is beyond 200 rad/s³: set allow_wider"):
        piper_limits(jerk=[300.0] * 6 + [40.0])
    assert piper_limits(jerk=[300.0] * 6 + [40.0], allow_wider=True).jerk[0] == 300.0
    assert piper_limits(acceleration=[2.0] * 6 + [0.5]).acceleration[0] == 2.0


@pytest.mark.parametrize("effort", [0.5, 1.0, 3.0])
def test_a_sensible_grip_is_taken_as_it_is(effort):
    assert check_gripper_effort(effort) == effort


@pytest.mark.parametrize("effort", [0.0, 0.49, 3.1, 5.0, np.nan])
def test_a_grip_that_crushes_or_does_not_hold_is_refused(effort):
    with pytest.raises(BadInput, match=r"gripper_effort .* is outside 0.5 … 3 N·m"):
        check_gripper_effort(effort)


@pytest.mark.parametrize(
    ("name", "index", "value", "message"),
    [
        ("lower", 2, -3.1, r"joint3: lower -3.1 rad is beyond -3.054 rad: no PiPER can"),
        ("upper", 6, 0.11, r"gripper: upper 0.11 m is beyond 0.1 m: no PiPER can"),
        ("velocity", 5, 3.1, r"joint6: velocity 3.1 rad/s is beyond 3 rad/s: no PiPER can"),
        ("acceleration", 0, 5.1, r"joint1: acceleration 5.1 rad/s² is beyond 5 rad/s²: no PiPER can"),
        ("jerk", 6, 201.0, r"gripper: jerk 201 m/s³ is beyond 200 m/s³: no PiPER can"),
        ("lower", 1, -0.001, r"joint2: lower -0.001 rad is beyond -?0 rad: no PiPER can"),
    ],
)
def test_beyond_the_hardware_is_always_refused(name, index, value, message):
    values = changed(getattr(PIPER_LIMITS, name), index, value)
    with pytest.raises(BadInput, match=message):
        piper_limits(**{name: values}, allow_wider=True)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("lower", [0.0] * 6, r"limits.lower must be seven numbers .* got shape \(6,\)"),
        ("upper", ["high"] * 7, r"limits.upper must be seven numbers"),
        ("upper", [0.0] * 6 + [np.nan], r"limits.upper of gripper must be a finite number, got nan"),
        ("lower", [-np.inf] * 7, r"limits.lower of joint1 must be a finite number, got -inf"),
        ("velocity", [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.1], r"joint2: velocity 0 rad/s must be above 0"),
        ("acceleration", [5.0] * 6 + [-1.0], r"gripper: acceleration -1 m/s² must be above 0"),
        ("jerk", [0.0] + [9.0] * 6, r"joint1: jerk 0 rad/s³ must be above 0"),
        ("lower", [3.0, 0, -1, 0, 0, 0, 0], r"joint1: lower 3 rad is above upper 2.6179 rad"),
    ],
)
def test_values_that_are_no_limits_are_refused_by_joint(name, values, message):
    with pytest.raises(BadInput, match=message):
        piper_limits(**{name: values})


def test_limits_cannot_be_changed_afterwards():
    mine = np.ones(7)
    limits = ArmLimits(-mine, mine, mine)
    mine[:] = 5.0
    assert_array_equal(limits.upper, np.ones(7))
    with pytest.raises(ValueError, match="read-only"):
        limits.upper[0] = 9.0
