"""Episodes directly on the runtime: success is counted right, and time is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vla_evaluation.rehearsal import HORIZON, RehearsedPilot, rehearse
from vla_evaluation.case import Case
from vla_evaluation.conditions import Condition
from vla_evaluation.outcome import Outcome
from vla_evaluation.runtime_rollout import roll_out
from vla_evaluation.staging import stage
from vla_runtime.errors import WorkFailed
from vla_runtime.sim.episode import CONTROL_PERIOD, Episode

NOMINAL = Condition("nominal")
SEED = 3


class CountingEpisode:
    """No scene: the targets it was given, and pictures that show when they were taken."""

    instruction, colour, limit, succeeded_at, holding = "reach the red cube", "red", 3.0, None, False

    def __init__(self) -> None:
        self.targets: list[NDArray[np.float64]] = []
        self.looks = 0

    @property
    def time(self) -> float:
        return len(self.targets) * CONTROL_PERIOD

    @property
    def state(self) -> NDArray[np.float64]:
        return np.full(7, -1.0) if not self.targets else self.targets[-1]

    def observe(self) -> dict[str, NDArray[np.uint8]]:
        self.looks += 1
        return {"side": np.full((2, 2, 3), len(self.targets), np.uint8)}

    def advance(self, targets: NDArray[np.float64]) -> None:
        self.targets.append(targets)


class CountingPilot:
    """Action i of the chunk that answers the picture of period n says n + i / 100."""

    horizon, executed, latency = HORIZON, 8, None

    def begin(self, instruction: str, seed: int) -> None:
        self.saw: list[int] = []

    def chunk(self, images: Mapping[str, NDArray[np.uint8]], state: NDArray[np.float64]) -> NDArray[np.float64]:
        self.saw.append(int(images["side"][0, 0, 0]))
        return np.repeat(self.saw[-1] + np.arange(HORIZON)[:, None] / 100, 7, axis=1)


def counted(condition: Condition, seed: int = 0) -> tuple[list[float], CountingPilot]:
    episode, pilot = CountingEpisode(), CountingPilot()
    roll_out(Case("bundle", condition, "reach", seed, False), episode, pilot)  # type: ignore[arg-type]
    return [float(targets[0]) for targets in episode.targets], pilot


def test_half_of_every_chunk_is_executed() -> None:
    targets, pilot = counted(NOMINAL)
    assert pilot.saw == [0, 8, 16, 24]
    assert targets == pytest.approx([8 * (n // 8) + n % 8 / 100 for n in range(30)])


@pytest.mark.parametrize("late", [1, 3, 8])
def test_a_late_chunk_skips_what_was_due_meanwhile(late: int) -> None:
    targets, pilot = counted(Condition("late", latency=late * CONTROL_PERIOD))
    assert pilot.saw == [0, 8, 16, 24], "it observes as often as ever"
    assert targets[:late] == [-1.0] * late, "nothing to follow yet: the arm stays"
    for n in range(late, 30):
        observed = 8 * ((n - late) // 8)
        assert targets[n] == pytest.approx(observed + (n - observed) / 100)


def test_a_dropped_frame_leaves_the_one_before_it() -> None:
    saw = [counted(Condition("dropped", dropped=0.7), seed)[1].saw for seed in range(200)]
    ages = np.array([asked - seen for seen_ in saw for asked, seen in zip((8, 16, 24), seen_[1:], strict=True)])
    assert all(seen[0] == 0 for seen in saw), "there is a first frame"
    assert (ages >= 0).all()
    fresh = (ages == 0).mean()
    assert 0.2 < fresh < 0.4, "three in ten arrive"
    assert ages.max() > 3
    assert counted(Condition("dropped", dropped=0.7), 5)[1].saw == saw[5], "which ones follows from the seed"


def test_the_whole_time_is_used() -> None:
    assert len(counted(NOMINAL)[0]) == 30


def run(task: str, seed: int, targets: NDArray[np.float64], *, swap: bool = False) -> Outcome:
    case = Case("bundle", NOMINAL, task, seed, swap)
    episode = Episode(task, 99)
    try:
        stage(episode, case)
        return roll_out(case, episode, RehearsedPilot(targets)).outcome
    finally:
        episode.close()


@pytest.mark.parametrize("task", ["reach", "lift", "place"])
def test_the_experts_success_is_counted_as_it_was(task: str) -> None:
    targets, rehearsed = rehearse(task, SEED)
    assert rehearsed.success
    outcome = run(task, SEED, targets)
    assert outcome.success
    assert outcome.succeeded_at == pytest.approx(rehearsed.succeeded_at)
    assert outcome.holding == rehearsed.holding
    assert outcome.instruction == rehearsed.instruction
    assert outcome.duration == pytest.approx(rehearsed.limit)
    assert outcome.ended_because is None
    assert outcome.interventions is None


def test_obedience_is_to_the_cube_that_the_instruction_names() -> None:
    own = Episode("reach", SEED, render=False)
    swapped = Episode("reach", SEED, render=False)
    stage(swapped, Case("bundle", NOMINAL, "reach", SEED, True))
    to_the_own, _ = rehearse("reach", SEED, own.colour)
    to_the_other, _ = rehearse("reach", SEED, swapped.colour)
    assert run("reach", SEED, to_the_other, swap=True).success
    disobedient = run("reach", SEED, to_the_own, swap=True)
    assert not disobedient.success
    assert disobedient.colour == swapped.colour


def test_an_arm_that_stands_still_fails_and_goes_nowhere() -> None:
    start = Episode("lift", SEED, render=False).state
    outcome = run("lift", SEED, start[None])
    assert not outcome.success
    assert outcome.succeeded_at is None
    assert not outcome.holding
    assert outcome.path_length < 0.01


def test_the_same_seed_is_the_same_episode_whatever_came_before() -> None:
    targets, _ = rehearse("reach", SEED)
    case = Case("bundle", NOMINAL, "reach", SEED, False)
    episode = Episode("reach", 0)
    stage(episode, case)
    first = roll_out(case, episode, RehearsedPilot(targets))
    other = Case("bundle", Condition("dark", Condition("x").perturbation), "reach", 11, True)
    stage(episode, other)
    roll_out(other, episode, RehearsedPilot(targets[::-1]))
    stage(episode, case)
    again = roll_out(case, episode, RehearsedPilot(targets))
    assert again.outcome == first.outcome
    for one, two in zip(first.frames, again.frames, strict=True):
        for camera in one:
            np.testing.assert_array_equal(one[camera], two[camera])
    episode.close()


def test_an_episode_that_cannot_go_on_ends_there_and_says_why() -> None:
    class Failing(CountingPilot):
        def chunk(self, *args: Any) -> NDArray[np.float64]:
            if len(self.saw) == 2:
                raise WorkFailed("the policy's actions are not finite")
            return super().chunk(*args)

    episode = CountingEpisode()
    outcome = roll_out(Case("bundle", NOMINAL, "reach", 0, False), episode, Failing()).outcome  # type: ignore[arg-type]
    assert outcome.ended_because == "the policy's actions are not finite"
    assert not outcome.success
    assert len(episode.targets) == 16
