"""The figures of chunk borders, on a policy whose chunks are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.chunk_picture import draw
from benchmarks.chunk_rollout import RATE, Border, Rollout, roll_out
from benchmarks.chunk_strategies import STRATEGIES, SWITCH, Strategy
from benchmarks.chunks import BORDER, jerks, row
from vla_runtime.chunks.chunk import ActionChunk
from vla_runtime.sim.episode import Episode

FOLLOWING = [strategy for strategy in STRATEGIES if strategy.rtc is None]


class StillEpisode:
    """An episode in which nothing happens."""

    def __init__(self) -> None:
        self.scene = SimpleNamespace(commanded=np.zeros(7), apply=lambda targets, dt: None)
        self.state = np.zeros(7)
        self.success = False

    def observe(self) -> dict[str, np.ndarray]:
        return {}

    def judge(self) -> None:
        pass


def rollout_of(strategy: Strategy, latency: float = 0.2) -> Rollout:
    """Chunks that ask joint 1 to rest at 0 and, every other one, at 0.1 rad."""
    asked = iter(range(100))

    def answer(images: object, state: object, former: object, now: float) -> ActionChunk:
        positions = np.zeros((16, 7))
        positions[:, 0] = 0.1 * (next(asked) % 2)
        return ActionChunk(now, 0.1 * np.arange(16), positions)

    episode: Episode = StillEpisode()  # type: ignore[assignment]  # as much of one as a rollout needs
    return roll_out(episode, answer, strategy.takeover, latency, seconds=3.0)


@pytest.mark.parametrize("strategy", FOLLOWING, ids=lambda strategy: strategy.name)
def test_only_the_switch_jumps_and_it_jumps_as_far_as_the_chunks_disagree(strategy: Strategy) -> None:
    found = rollout_of(strategy)
    steps = [border.position_step for border in found.borders]
    assert [border.at for border in found.borders] == pytest.approx(np.arange(0.6, 3.0, 0.4))
    assert steps == pytest.approx([0.1 if strategy.name == SWITCH else 0.0] * len(steps), abs=1e-9)
    if strategy.name != "ensemble":
        assert [border.off for border in found.borders] == pytest.approx([0.1] * len(steps))


def test_targets_are_recorded_from_the_first_chunk_on() -> None:
    found = rollout_of(FOLLOWING[0], latency=0.3)
    assert found.begins == pytest.approx(0.3)
    assert len(found.targets) == round((3.0 - 0.3) * RATE)


def test_jerk_is_the_third_derivative_on_either_side_of_the_line() -> None:
    times = np.arange(200) / RATE
    targets = np.zeros((200, 7))
    targets[:, 2] = 0.5 * times**3
    found = Rollout(targets=list(targets), borders=[Border(1.0, 0.0, 0.0, 0.0)])
    near, far = jerks(found)
    assert len(near) == round(BORDER * RATE) + 3
    assert len(near) + len(far) == 197
    np.testing.assert_allclose(np.concatenate((near, far))[:, 2], 3.0, rtol=1e-4)
    assert row("cubic", 0.0, [found]).jerk_max == pytest.approx(3.0, rel=1e-4)


def test_a_jump_is_in_the_jerk_at_the_border_and_not_between() -> None:
    found = row(SWITCH, 0.2, [rollout_of(FOLLOWING[0])])
    assert found.jerk_max == pytest.approx(2 * 0.1 * RATE**3)  # a step's third difference is 1, -2, 1
    assert found.jerk_rms_between == pytest.approx(0.0, abs=1e-6)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    rollouts = {strategy.name: rollout_of(strategy) for strategy in FOLLOWING}
    rows = [row(name, 0.2, [found]) for name, found in rollouts.items()]
    draw(rows, STRATEGIES, rollouts[SWITCH], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
