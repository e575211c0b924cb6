"""Plans: even paces through poses, and the way round cubes."""

import numpy as np
import pytest

from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.sim.episode import CONTROL_PERIOD, spot_beside
from vla_runtime.sim.inverse_kinematics import joints_at
from vla_runtime.sim.plan import OPEN, SHUT, Phase, plan_to
from vla_runtime.sim.scene import HOME

CUBE = np.array([0.28, 0.06, 0.018])
GOAL = np.array([0.32, -0.08, 0.018])
HIGH = np.array([0.30, 0.0, 0.17])


def plan(task, point=HIGH, targets=HOME):
    spot = spot_beside(GOAL) if task == "place" else None
    return plan_to(task, np.array(targets, dtype=float), np.asarray(point), CUBE, 0.1, spot)


def phases(plan):
    return [stage.phase for stage in plan.stages]


def test_the_stages_of_each_task():
    approach = [Phase.TRAVEL, Phase.DESCEND, Phase.CLOSE, Phase.LIFT]
    assert phases(plan("reach")) == [Phase.TRAVEL]
    assert phases(plan("lift")) == approach
    assert phases(plan("place")) == [*approach, Phase.CARRY, Phase.LOWER, Phase.RELEASE, Phase.RETREAT]


@pytest.mark.parametrize("task", ["reach", "lift", "place"])
def test_it_ends_at_its_last_pose_and_stays_there_never_too_fast(task):
    start = plan(task)
    chunk = start.ahead(100)
    steps = np.diff(chunk, axis=0, prepend=start.targets[None])
    assert np.all(np.abs(steps) < PIPER_LIMITS.velocity * CONTROL_PERIOD)
    np.testing.assert_allclose(chunk[-1], start.stages[-1].pose, atol=1e-9)
    after = start
    for _ in range(100):
        after = after.next()
    assert after.finished
    np.testing.assert_array_equal(after.next().targets, after.targets)
    assert not start.finished


def test_what_lies_ahead_is_what_comes_next():
    now = plan("place")
    for targets in now.ahead(60):
        now = now.next()
        np.testing.assert_array_equal(now.targets, targets)


def test_the_fingers_close_around_the_cube_before_they_rise():
    now, opening = plan("lift"), {}
    for _ in range(60):
        now = now.next()
        opening.setdefault(now.phase, now.targets[6])
    assert opening[Phase.DESCEND] == pytest.approx(OPEN)
    assert opening[Phase.LIFT] == pytest.approx(SHUT)


def test_fingers_between_cubes_rise_before_they_travel():
    low = np.array([0.28, -0.04, 0.03])
    targets = np.append(joints_at(low, 0.0), OPEN)
    now = plan("lift", point=low, targets=targets)
    assert phases(now)[0] is Phase.RAISE
    first = now.stages[0].pose
    assert first[0] == pytest.approx(targets[0])  # straight up, in the same plane
    assert phases(plan("reach", point=low, targets=targets)) == [Phase.RAISE, Phase.TRAVEL]


def test_fingers_already_around_the_cube_go_straight_down():
    around = CUBE + 0.03 * np.eye(3)[2]
    wide, narrow = (np.append(joints_at(around, 0.1), opening) for opening in (OPEN, 0.045))
    assert phases(plan("lift", point=around, targets=wide))[0] is Phase.DESCEND
    assert phases(plan("lift", point=around, targets=narrow))[0] is Phase.TRAVEL


def test_a_cube_can_be_put_elsewhere_than_was_planned():
    elsewhere = spot_beside(np.array([0.26, 0.12, 0.018]))
    now = plan("place")
    while now.phase is not Phase.LIFT:
        now = now.next()
    other = now.put_at(elsewhere)
    assert phases(other) == phases(now)
    assert other.phase is Phase.LIFT
    assert np.arctan2(elsewhere[1], elsewhere[0]) == pytest.approx(other.ahead(60)[-1][0])
