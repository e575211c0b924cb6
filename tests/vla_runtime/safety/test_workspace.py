from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.vla_runtime.safety.mujoco_arm import GEOMETRY, MujocoArm
from vla_runtime.arms.piper_kinematics import flange_transform
from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.workspace import Workspace, WorkspaceRoom
from vla_runtime.sim.scene import HOME

ARM = MujocoArm()
RNG = np.random.default_rng(1)
POSTURES = RNG.uniform(PIPER_LIMITS.lower, PIPER_LIMITS.upper, (40, 7))
WORKSPACE = Workspace(np.array([-0.2, -0.3, 0.0]), np.array([0.5, 0.3, 0.6]), table_height=0.02, margin=0.01)
ROOM = WorkspaceRoom(GEOMETRY, WORKSPACE)
ALL = np.arange(len(ROOM.reach))


def room(posture):
    return ROOM.room(GEOMETRY.frames(np.array(posture, dtype=float)[None]), ALL)[0]


@pytest.mark.parametrize("posture", POSTURES[:20])
def test_the_tools_room_is_its_distance_from_the_sides(posture):
    tool = (flange_transform(posture[:6]) @ np.append(WORKSPACE.tool, 1.0))[:3]
    expected = np.append(tool - WORKSPACE.lower, WORKSPACE.upper - tool)
    assert_allclose(room(posture)[:6], expected, atol=1e-6)


@pytest.mark.parametrize("posture", POSTURES[:20])
def test_the_room_above_the_table_is_that_of_the_lowest_points_mujoco_has(posture):
    ARM.pose(posture)
    moving = [i for i, shape in enumerate(GEOMETRY.shapes) if GEOMETRY.names[shape.body] not in ("base", "link1")]
    lowest = np.array([ARM.height(index) for index in moving])
    assert_allclose(room(posture)[6:], lowest - 0.02 - 0.01, atol=1e-6)


def test_the_tool_is_between_the_fingers():
    ARM.pose(HOME)
    tool = flange_transform(HOME[:6]) @ np.append(Workspace().tool, 1.0)
    assert_allclose(tool[:3], ARM.data.site("grasp").xpos, atol=1e-6)


def test_what_changes_by_less_than_its_reach_cannot_use_up_the_room():
    moved = POSTURES + RNG.normal(0, 0.1, POSTURES.shape)
    before, after = (ROOM.room(GEOMETRY.frames(postures), ALL) for postures in (POSTURES, moved))
    assert np.all(np.abs(before - after) <= np.abs(moved - POSTURES) @ ROOM.reach.T + 1e-9)


def test_by_default_the_arm_may_be_where_it_works_and_rests_but_not_under_the_table():
    roomy = WorkspaceRoom(GEOMETRY, Workspace())
    for posture, fits in ((HOME, True), (np.zeros(7), True), ((0, 2.4, -0.6, 0, 0.9, 0, 0.05), False)):
        found = roomy.room(GEOMETRY.frames(np.array(posture, dtype=float)[None]), ALL)[0]
        assert bool(np.all(found >= 0)) is fits


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (0, "the tool would leave the workspace: x lower -0.2 m"),
        (5, "the tool would leave the workspace: z upper 0.6 m"),
        (6, "link2 would come too near the table"),
        (len(ALL) - 1, "finger_right would come too near the table"),
    ],
)
def test_what_is_used_up_is_named(index, words):
    assert ROOM.words(index) == words


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lower": [0, 0]}, r"workspace.lower must be three finite numbers \(x, y, z\)"),
        ({"upper": ["far", 0, 0]}, "workspace.upper must be three numbers"),
        ({"tool": [0, 0, np.nan]}, "workspace.tool must be three finite numbers"),
        ({"lower": [0.9, -0.8, 0]}, "workspace x from 0.9 to 0.8 m: it must be 0.01 to 3 m long"),
        ({"upper": [0.8, 0.8, 9.0]}, "workspace z from -0.1 to 9 m"),
        ({"table_height": np.nan}, "workspace.table_height must be between -1 and 1 m, got nan"),
        ({"margin": -0.01}, "workspace.margin must be between 0 and 0.1 m, got -0.01"),
        ({"margin": 0.2}, "workspace.margin must be between 0 and 0.1 m, got 0.2"),
    ],
)
def test_a_workspace_that_is_none_is_refused_by_name(values, message):
    with pytest.raises(BadInput, match=message):
        Workspace(**values)
