"""The judge looks on while somebody else lets time pass."""

from __future__ import annotations

import numpy as np
import pytest

from vla_runtime.sim.episode import CONTROL_PERIOD, Episode
from vla_runtime.sim.expert import Expert
from vla_runtime.sim.judged_scene import JudgedScene


@pytest.mark.parametrize("pieces", [1, 5, 25])
def test_the_verdict_is_that_of_advancing(pieces: int) -> None:
    advanced, driven = Episode("reach", 4, render=False), Episode("reach", 4, render=False)
    expert, plant = Expert(advanced), JudgedScene(driven)
    for _ in range(30):
        targets, start = expert.act(), driven.scene.commanded
        advanced.advance(targets)
        for piece in range(1, pieces + 1):
            plant.apply(start + (targets - start) * piece / pieces, CONTROL_PERIOD / pieces)
    assert advanced.success
    assert driven.time == pytest.approx(advanced.time)
    assert driven.succeeded_at == pytest.approx(advanced.succeeded_at)
    np.testing.assert_allclose(driven.state, advanced.state, atol=1e-9)


def test_it_is_judged_once_a_control_period_however_time_passes() -> None:
    episode = Episode("lift", 0, render=False)
    plant = JudgedScene(episode)
    rng = np.random.default_rng(0)
    passed = 0.0
    while passed < 3.0:
        dt = rng.uniform(0.001, 0.02)
        plant.apply(plant.positions, dt)
        passed += dt
        assert passed - CONTROL_PERIOD - 1e-6 < episode.time <= passed + 1e-6
