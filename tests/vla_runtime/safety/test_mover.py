from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

from tests.vla_runtime.safety.motion_checks import excess
from vla_runtime.errors import BadInput
from vla_runtime.safety.arm_geometry import piper_geometry
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.mover import Mover
from vla_runtime.safety.self_collision import SelfCollision
from vla_runtime.safety.workspace import Workspace, WorkspaceRoom
from vla_runtime.sim.scene import HOME

PERIOD = 0.01
TIGHT = Workspace(np.array([-0.1, -0.3, 0.03]), np.array([0.45, 0.3, 0.5]), table_height=0.0)
GEOMETRY = piper_geometry()
ROOMS = (WorkspaceRoom(GEOMETRY, TIGHT), SelfCollision(GEOMETRY, TIGHT.margin))
BELOW = np.array([0, 2.3, -0.9, 0, 0.8, 0, 0.05])  # under the table
INTO_ITSELF = np.array([0, 0.0, 0.0, 0, 1.2, 0, 0])  # the hand in the upper arm

goals = arrays(np.float64, 7, elements=st.floats(0, 1)).map(
    lambda part: PIPER_LIMITS.lower + part * (PIPER_LIMITS.upper - PIPER_LIMITS.lower)
)


def mover(workspace=TIGHT, start=HOME, velocities=None):
    moved = Mover(PIPER_LIMITS, workspace, park_speed=0.5)
    moved.start(np.array(start, dtype=float), np.zeros(7) if velocities is None else velocities)
    return moved


def least_room(postures):
    frames = GEOMETRY.frames(np.atleast_2d(postures))
    return min(float(room.room(frames, np.arange(len(room.reach))).min()) for room in ROOMS)


def drive(moved, goal, ticks=400):
    """Towards ``goal`` until that is forbidden, then to rest. The positions sent, and why it ended."""
    sent = [moved.position]
    for _ in range(ticks):
        _, violation = moved.follow(np.array(goal, dtype=float), PERIOD)
        sent.append(moved.position)
        if violation is not None:
            break
    while not moved.at_rest:
        moved.brake(PERIOD)
        sent.append(moved.position)
    return np.array(sent), violation


@given(st.lists(goals, min_size=1, max_size=4))
@settings(max_examples=40)
def test_wherever_it_is_sent_it_stops_in_time(sequence):
    moved = mover()
    sent = [moved.position]
    for goal in sequence:
        positions, _ = drive(moved, goal, ticks=120)
        sent.extend(positions[1:])
    positions = np.array(sent)
    assert least_room(positions) >= -0.002  # [m]; what may lie between two looks at a way
    assert np.all(excess(PERIOD * np.arange(len(positions)), positions, PIPER_LIMITS) <= 1e-6)


TABLE_ONLY = Workspace(table_height=0.0)
SHORT = Workspace(upper=np.array([0.32, 0.3, 0.5]))


@pytest.mark.parametrize(
    ("workspace", "start", "goal", "kind", "reason"),
    [
        (TABLE_ONLY, HOME, BELOW, "workspace", "too near the table"),
        (
            SHORT,
            HOME,
            [0, 1.24, -1.08, 0, 0, 0, 0.05],
            "workspace",
            "the tool would leave the workspace: x upper 0.32 m",
        ),
        (TIGHT, [0, 0.6, -0.6, 0, 0, 0, 0.05], INTO_ITSELF, "self_collision", "too near each other"),
    ],
)
def test_it_brakes_before_what_must_not_happen_and_says_what(workspace, start, goal, kind, reason):
    sent, violation = drive(mover(workspace, start), goal)
    assert violation is not None
    assert violation.kind == kind
    assert reason in violation.reason
    rested = mover(workspace, sent[-1])
    assert rested.forbidden_rest(sent[-1]) is None
    assert np.all(excess(PERIOD * np.arange(len(sent)), sent, PIPER_LIMITS) <= 1e-6)


def test_a_way_with_room_is_gone_as_it_is():
    moved = mover()
    for step in range(1, 200):
        goal = np.array(HOME) + 0.1 * np.sin(0.005 * step) ** 2 * np.eye(7)[0]
        kinds, violation = moved.follow(goal, PERIOD)
        assert (kinds, violation) == ((), None)
        assert_array_equal(moved.position, goal)


@pytest.mark.parametrize(
    ("start", "out", "deeper"),
    [
        (BELOW, HOME, [0, 2.5, -0.9, 0, 0.8, 0, 0.05]),
        (INTO_ITSELF, np.zeros(7), [0, 0, 0, 0, 1.22, 0, 0]),
    ],
)
def test_from_where_it_must_not_be_it_can_return_but_not_go_deeper(start, out, deeper):
    back, violation = drive(mover(start=start), out)
    assert violation is None
    assert least_room(start) < 0 <= least_room(back[-1])
    sent, violation = drive(mover(start=start), deeper)
    assert violation is not None
    assert least_room(sent) >= least_room(start) - 1e-6


def test_the_way_to_the_park_position_is_free_from_where_it_works():
    moved = mover(Workspace(), HOME)
    while not np.allclose(moved.position, 0.0, atol=1e-5):
        _, violation = moved.follow(np.zeros(7), PERIOD, careful=True)
        assert violation is None
    assert moved.forbidden_rest(np.zeros(7)) is None


def test_a_careful_motion_slows_to_its_own_speed_within_the_limits():
    moved = mover(Workspace())
    goal = np.array(HOME) + 2.0 * np.eye(7)[0]
    sent = [moved.position]
    for tick in range(120):
        moved.follow(goal, PERIOD, careful=tick >= 60)
        sent.append(moved.position)
    speed = np.diff(np.array(sent)[:, 0]) / PERIOD
    np.testing.assert_allclose(speed[50:59], 1.0, atol=1e-5)
    np.testing.assert_allclose(speed[-20:], 0.5, atol=1e-5)
    assert np.all(excess(PERIOD * np.arange(len(sent)), np.array(sent), PIPER_LIMITS) <= 1e-6)


def test_an_arm_of_older_firmware_is_elsewhere_with_the_same_readings():
    dips = [np.array(HOME) + dip * np.eye(7)[1] for dip in np.arange(0, 1.0, 0.005)]
    new, old = mover(TABLE_ONLY), mover(TABLE_ONLY)
    old.know_firmware("S-V1.5-2")
    first = [[arm.forbidden_rest(dip) is not None for dip in dips].index(True) for arm in (new, old)]
    assert abs(first[1] - first[0]) * 0.005 >= np.radians(0.5)
    new.know_firmware("S-V1.8-2")
    assert [new.forbidden_rest(dip) is not None for dip in dips].index(True) == first[0]
    with pytest.raises(BadInput, match="'S' is not a version"):
        old.know_firmware("S")


def test_without_a_start_there_is_nothing_to_follow_from():
    moved = Mover(PIPER_LIMITS, TIGHT, park_speed=0.5)
    moved.brake(PERIOD)
    assert (moved.position, moved.end, moved.at_rest) == (None, None, True)
    with pytest.raises(ValueError, match="start first"):
        moved.follow(np.zeros(7), PERIOD)
