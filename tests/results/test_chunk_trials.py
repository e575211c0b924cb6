"""Trials with late chunks: what is kept, and what an episode comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.chunk_rollout import RATE, Border, Rollout
from results import chunk_trials
from results.chunk_trials import Plan, Trial, TrialOutcome, outcome_of, run_trials


def trial(seed: int) -> Trial:
    return Trial(speed=0.04, latency=0.2, strategy="blend", seed=seed)


def outcome(of: Trial) -> TrialOutcome:
    return TrialOutcome(trial=of, succeeded_at=float(of.seed), squares=1.0, jerks=2, off=(0.1,))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that were run, the last one first; none of them for real."""
    seeds: list[int] = []

    def run_all(plan: Plan, trials: Sequence[Trial], workers: int) -> Iterator[TrialOutcome]:
        for one in reversed(trials):
            seeds.append(one.seed)
            yield outcome(one)

    monkeypatch.setattr(chunk_trials, "_run_all", run_all)
    return seeds


def test_outcomes_come_in_the_order_of_the_plan(ran: list[int], tmp_path: Path) -> None:
    found = run_trials(Plan(tmp_path, 1.0, tuple(map(trial, range(3)))), tmp_path / "kept" / "trials.jsonl", 1)
    assert [one.trial.seed for one in found] == [0, 1, 2]
    assert ran == [2, 1, 0]


def test_what_is_finished_is_not_run_again_and_half_a_line_is(ran: list[int], tmp_path: Path) -> None:
    kept = tmp_path / "trials.jsonl"
    lines = [outcome(trial(seed)).model_dump_json() + "\n" for seed in (0, 1)]
    kept.write_text(lines[0] + lines[1][:20], encoding="utf-8")
    plan = Plan(tmp_path, 1.0, tuple(map(trial, range(3))))
    assert run_trials(plan, kept, 1) == [outcome(trial(seed)) for seed in range(3)]
    assert sorted(ran) == [1, 2]
    ran.clear()
    assert run_trials(plan, kept, 1) == [outcome(trial(seed)) for seed in range(3)]
    assert ran == []


def rollout(seconds: float) -> Rollout:
    """One joint of jerk 6 rad/s³ for a second, then of 60; borders at 0.5 and 1.5 s."""
    times = np.arange(round(seconds * RATE)) / RATE
    targets = np.zeros((len(times), 7))
    targets[:, 0] = np.where(
        times < 1.0, times**3, 1.0 + 3 * (times - 1) + 3 * (times - 1) ** 2 + 10 * (times - 1) ** 3
    )
    borders = [Border(0.5, 0.1, 0.0, 0.0), Border(1.5, 0.3, 0.0, 0.0)]
    return Rollout(succeeded=True, begins=0.0, targets=list(targets), borders=borders)


def test_jerk_is_that_of_the_borders() -> None:
    found = outcome_of(trial(0), rollout(2.0), None)
    of_both = (6.0**2 + 60.0**2) / 2 / 6  # five joints are at rest
    assert found.squares / found.jerks == pytest.approx(of_both, rel=1e-3)
    assert found.off == (0.1, 0.3)


def test_what_happens_once_the_cube_is_lifted_does_not_count() -> None:
    found = outcome_of(trial(0), rollout(2.0), 1.0)
    assert found.squares / found.jerks == pytest.approx(6.0**2 / 6, rel=1e-3)
    assert found.off == (0.1,)
