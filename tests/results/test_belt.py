"""Cubes on a belt, in the simulated scene."""

from __future__ import annotations

import numpy as np
import pytest

from results.belt import Belt
from vla_runtime.sim.episode import CONTROL_PERIOD, Episode
from vla_runtime.sim.scene import CUBES

SPEED = 0.04


@pytest.fixture
def episode() -> Episode:
    return Episode("lift", 0, render=False)


def travelled(episode: Episode, belt: Belt, seconds: float) -> dict[str, np.ndarray]:
    before = episode.scene.cube_positions()
    for _ in range(round(seconds * 100)):
        belt.apply(episode.scene.commanded, 0.01)
    after = episode.scene.cube_positions()
    return {colour: after[colour] - before[colour] for colour in CUBES}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_cubes_go_at_the_belts_pace_to_the_other_side_of_the_named_one(episode: Episode, seed: int) -> None:
    episode.restart(seed)
    side = np.sign(episode.scene.cube_positions()[episode.colour][1])
    for moved in travelled(episode, Belt(episode, SPEED), 0.5).values():
        np.testing.assert_allclose(moved, [0.0, -side * SPEED * 0.5, 0.0], atol=1e-3)


def test_a_cube_in_the_fingers_is_not_dragged(episode: Episode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode, "touching", lambda colour: 2 if colour == "green" else 0)
    moved = travelled(episode, Belt(episode, SPEED), 0.5)
    assert abs(moved["green"][1]) < 1e-3
    assert abs(moved["red"][1]) == pytest.approx(SPEED * 0.5, abs=1e-3)


def test_a_cube_above_the_belt_is_not_dragged(episode: Episode) -> None:
    with episode.scene.lock:
        episode.scene.data.qpos[episode.scene.model.joint("red").qposadr[0] + 2] = 0.2
        episode.scene.data.qvel[:] = 0.0
    episode.scene.apply(episode.scene.commanded, 0.004)
    moved = travelled(episode, Belt(episode, SPEED), 0.1)  # it falls from 20 cm for longer than that
    assert abs(moved["red"][1]) < 1e-4


def test_time_on_the_belt_is_judged(episode: Episode) -> None:
    travelled(episode, Belt(episode, SPEED), 0.5)
    assert episode.time == pytest.approx(5 * CONTROL_PERIOD)
