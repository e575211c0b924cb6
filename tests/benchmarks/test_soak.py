"""Twenty thousand ticks of the soak, and whether it would notice a broken limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import soak as soaking
from benchmarks import soak_world
from benchmarks.used_limits import judge
from vla_runtime.errors import WorkFailed
from vla_runtime.safety.limits import PIPER_LIMITS


def test_no_command_breaks_a_limit_whatever_goes_wrong() -> None:
    found = soaking.soak(20_000, seed=1)
    assert found.ticks == 20_000
    assert found.commands > 10_000
    assert found.used.beyond == 0
    assert 0.99 < max(found.used.velocity, found.used.acceleration, found.used.jerk) <= 1 + 1e-6
    assert {"TRACKING", "HOLDING", "STOPPING", "PARKING", "DISABLED", "ENABLING"} == set(found.states)
    assert len(found.faults) > 20


def test_it_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = replace(PIPER_LIMITS, acceleration=1.1 * PIPER_LIMITS.acceleration)
    monkeypatch.setattr(soak_world, "PIPER_LIMITS", hasty)
    with pytest.raises(WorkFailed, match=r"seed 2: a command broke a limit, .* acceleration=1\.\d"):
        soaking.soak(2_000, seed=2)


def test_the_same_seed_is_the_same_life() -> None:
    first, second = (soaking.soak(500, seed=3) for _ in range(2))
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_motion_at_its_limit_uses_all_of_it(order: int) -> None:
    times = np.cumsum(np.random.default_rng(order).uniform(0.005, 0.02, 60))
    bound = [PIPER_LIMITS.velocity, PIPER_LIMITS.acceleration, PIPER_LIMITS.jerk][order - 1]
    factorial = [1, 2, 6][order - 1]
    local = times - times[30]
    found = judge(times.tolist(), list(bound * local[:, None] ** order / factorial), PIPER_LIMITS)
    used = [found.velocity, found.acceleration, found.jerk][order - 1]
    assert used == pytest.approx(1.0, abs=1e-6)
