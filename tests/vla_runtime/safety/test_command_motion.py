"""Where a command begins, it can also stop: whatever the arm was doing when it was found."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vla_runtime.safety.command_motion import BrakingWay, starting
from vla_runtime.safety.limits import PIPER_LIMITS

LOWER, UPPER = PIPER_LIMITS.lower, PIPER_LIMITS.upper


@st.composite
def found(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """An arm anywhere within its limits or a little outside, as fast as it can be and faster. Shapes (7,), (7,)."""
    place = np.array(draw(st.lists(st.floats(-0.05, 1.05), min_size=7, max_size=7)))
    speed = np.array(draw(st.lists(st.floats(-3.0, 3.0), min_size=7, max_size=7)))
    return LOWER + place * (UPPER - LOWER), speed * PIPER_LIMITS.velocity


@given(found())
def test_braking_from_where_it_begins_ends_inside_or_no_further_out(arm: tuple[np.ndarray, np.ndarray]) -> None:
    positions, velocities = arm
    low, high = BrakingWay(starting(positions, velocities, PIPER_LIMITS), PIPER_LIMITS).reaches
    assert np.all(high <= np.maximum(UPPER, positions) + 1e-9)
    assert np.all(low >= np.minimum(LOWER, positions) - 1e-9)


@given(found())
def test_the_speed_is_the_arms_wherever_it_can_be(arm: tuple[np.ndarray, np.ndarray]) -> None:
    positions, velocities = arm
    axes = starting(positions, velocities, PIPER_LIMITS).axes
    wanted = np.clip(velocities, -PIPER_LIMITS.velocity, PIPER_LIMITS.velocity)
    for axis, speed, lower, upper, position in zip(axes, wanted, LOWER, UPPER, positions, strict=True):
        assert abs(axis.velocity) <= abs(speed)
        assert axis.velocity * speed >= 0
        if min(upper - position, position - lower) > 0.5 and upper - lower > 1:
            assert axis.velocity == speed  # far from either limit
