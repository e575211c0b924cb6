"""Through safety layer and CAN frames in real time: the same play, the same end."""

from __future__ import annotations

import pytest

from tests.vla_evaluation.rehearsal import RehearsedPilot, rehearse
from vla_evaluation.can_rollout import roll_out_over_can
from vla_evaluation.case import Case
from vla_evaluation.conditions import Condition
from vla_evaluation.staging import stage
from vla_runtime.sim.episode import Episode

CASE = Case("bundle", Condition("nominal"), "lift", 3, False)


def test_the_expert_lifts_the_cube_over_the_bus_too() -> None:
    targets, rehearsed = rehearse("lift", CASE.seed)
    episode = Episode("lift", 0)
    stage(episode, CASE)
    rollout = roll_out_over_can(CASE, episode, RehearsedPilot(targets))
    episode.close()
    outcome = rollout.outcome
    assert outcome.success
    assert outcome.holding
    assert outcome.succeeded_at == pytest.approx(rehearsed.succeeded_at, abs=0.5)  # [s] of simulated time
    assert outcome.duration == pytest.approx(episode.limit, abs=0.2)
    assert outcome.ended_because is None
    assert outcome.interventions is not None
    assert len(rollout.frames) == outcome.chunks


def test_targets_beyond_the_limits_are_counted_and_never_reach_the_arm() -> None:
    targets, _ = rehearse("reach", 1)
    targets[:, 4] = 2.0  # beyond joint 5's limit of 1.22 rad
    case = Case("bundle", Condition("nominal"), "reach", 1, False)
    episode = Episode("reach", 0)
    stage(episode, case)
    outcome = roll_out_over_can(case, episode, RehearsedPilot(targets)).outcome
    at_the_limit = episode.state[4]
    episode.close()
    assert outcome.interventions is not None
    assert outcome.interventions["position_limit"] > 0
    assert at_the_limit < 1.25
