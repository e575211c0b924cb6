from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from tests.vla_runtime.safety.mujoco_arm import GEOMETRY, MujocoArm
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.safety.self_collision import FOLDED, SelfCollision
from vla_runtime.sim.scene import HOME

MARGIN = 0.005
ARM = MujocoArm()
ROOM = SelfCollision(GEOMETRY, MARGIN)
ALL = np.arange(len(ROOM.reach))
RNG = np.random.default_rng(0)
POSTURES = RNG.uniform(PIPER_LIMITS.lower, PIPER_LIMITS.upper, (60, 7))
NEIGHBOURS = {
    *((GEOMETRY.names[parent], name) for name, parent in zip(GEOMETRY.names, GEOMETRY.parents, strict=True)),
    ("base", "link2"),
    ("finger_left", "finger_right"),
}


def true_distances(posture):
    """MuJoCo's, the least of each two links that are no neighbours, in [m]."""
    ARM.pose(posture)
    found = {}
    for i, k in combinations(range(len(GEOMETRY.shapes)), 2):
        pair = tuple(GEOMETRY.names[GEOMETRY.shapes[index].body] for index in (i, k))
        if pair[0] != pair[1] and pair not in NEIGHBOURS:
            found[pair] = min(found.get(pair, np.inf), ARM.distance(i, k))
    return found


def our_distances(posture):
    rooms = ROOM.room(GEOMETRY.frames(posture[None]), ALL)[0] + ROOM.needed
    found = {}
    for index, distance in enumerate(rooms):
        pair = ROOM.links(index)
        found[pair] = min(found.get(pair, np.inf), distance)
    return found


@pytest.mark.parametrize("posture", POSTURES[:25])
def test_no_two_links_are_nearer_than_it_says_nor_much_farther(posture):
    ours, true = our_distances(posture), true_distances(posture)
    assert set(ours) == set(true)
    for pair, distance in true.items():
        if distance > 1e-6:  # within each other, MuJoCo's distance is a depth of another kind
            assert ours[pair] <= distance + 1e-6, pair
            assert ours[pair] >= distance - 0.08, pair


def test_it_stops_what_would_collide_and_little_else():
    room = ROOM.room(GEOMETRY.frames(POSTURES), ALL).min(axis=1)
    true = np.array([min(true_distances(posture).values()) for posture in POSTURES])
    assert np.all(room[true < MARGIN] < 0)
    assert np.mean((room < 0) & (true > 0.02)) <= 0.02


@pytest.mark.parametrize("posture", [FOLDED, np.array(HOME), np.array([0, 0, 0, 0, 0, 0, 0.07])])
def test_where_the_arm_rests_and_works_there_is_room(posture):
    assert ROOM.room(GEOMETRY.frames(posture[None]), ALL).min() >= 0


def test_folded_it_may_be_as_near_itself_as_that_takes_but_not_nearer():
    below = FOLDED + np.array([0, 0, 0.05, 0, 0, 0, 0])  # the forearm pressed into the upper arm
    room = ROOM.room(GEOMETRY.frames(below[None]), ALL)[0]
    assert room.min() < 0
    assert ROOM.words(int(np.argmin(room))) == "link2 and link4 would come too near each other"


def test_what_changes_by_less_than_its_reach_cannot_use_up_the_room():
    moved = POSTURES + RNG.normal(0, 0.1, POSTURES.shape)
    before, after = (ROOM.room(GEOMETRY.frames(postures), ALL) for postures in (POSTURES, moved))
    assert np.all(before - after <= np.abs(moved - POSTURES) @ ROOM.reach.T + 1e-9)


def test_some_pairs_give_the_same_as_all():
    some = np.array([3, 40, 100])
    frames = GEOMETRY.frames(POSTURES)
    np.testing.assert_array_equal(ROOM.room(frames, some), ROOM.room(frames, ALL)[:, some])
