"""Scores: counted right, gone on with, and of their own condition alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from results import success as module
from results.success import Score, paired, success
from tests.toy_bundle import write_toy_bundle
from vla_evaluation.case import Case
from vla_evaluation.conditions import Condition
from vla_evaluation.intervals import paired_difference, wilson
from vla_evaluation.outcome import Outcome
from vla_runtime.errors import BadInput
from vla_runtime.sim.perturbation import Perturbation


class Runner:
    """In the place of processes that simulate: even seeds succeed; ``cases`` are those that ran."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def __call__(self, request, cases, workers, directory, done) -> None:  # type: ignore[no-untyped-def]  # as run_cases
        for case in cases:
            self.cases.append(case)
            done(outcome(case))


def outcome(case: Case) -> Outcome:
    return Outcome(
        key=case.key,
        bundle=case.bundle,
        condition=case.condition.name,
        seed=case.seed,
        colour="red",
        instruction="reach the red cube",
        success=case.seed % 2 == 0,
        succeeded_at=None,
        holding=False,
        duration=6.0,
        path_length=0.1,
        jerk=float(case.seed),
        chunks=8,
        chunk_latency=10.0 + case.seed,
    )


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    found = Runner()
    monkeypatch.setattr(module, "run_cases", found)
    monkeypatch.setattr(module, "OUT", tmp_path / "out")
    return found


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")


def test_a_score_counts_its_seeds(runner: Runner, bundle: Path) -> None:
    score = success(bundle, "reach", 5)
    assert score.successes == wilson(3, 5)
    assert score.by_seed == {0: True, 1: False, 2: True, 3: False, 4: True}
    assert (score.task, score.condition, score.jerk, score.chunk_latency_ms) == ("reach", "nominal", 2.0, 12.0)
    assert score.in_words() == "3 of 5 (23–88 %)"


def test_more_episodes_go_on_where_fewer_stopped(runner: Runner, bundle: Path) -> None:
    success(bundle, "reach", 3)
    score = success(bundle, "reach", 6)
    assert [case.seed for case in runner.cases] == [0, 1, 2, 3, 4, 5]
    assert score.successes.n == 6
    assert success(bundle, "reach", 3).by_seed == {0: True, 1: False, 2: True}
    assert len(runner.cases) == 6


def test_every_condition_has_outcomes_of_its_own(runner: Runner, bundle: Path) -> None:
    one, other = (Condition("dim", Perturbation(light=x)) for x in (0.25, 0.5))
    for condition in (None, one, other, one):
        assert success(bundle, "reach", 2, condition=condition).condition == ("dim" if condition else "nominal")
    assert [case.condition.perturbation.light for case in runner.cases] == [0, 0, 0.25, 0.25, 0.5, 0.5]


def test_an_unknown_task(runner: Runner, bundle: Path) -> None:
    with pytest.raises(BadInput, match="task 'fold'"):
        success(bundle, "fold", 2)


def test_a_difference_is_of_the_same_seeds() -> None:
    def score(*succeeded: bool) -> Score:
        found = wilson(sum(succeeded), len(succeeded))
        return Score("reach", "nominal", found, dict(enumerate(succeeded)), None, None)

    assert paired(score(True, True, False, False), score(True, False, True, False)) == paired_difference(1, 1, 1, 1)
    assert paired(score(True, True), score(False, False)).difference == 1.0
    with pytest.raises(ValueError, match="different seeds"):
        paired(score(True), score(True, False))


def test_real_episodes_in_a_process(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUT", tmp_path)
    still = success(bundle, "reach", 1, workers=1)
    assert still.successes == wilson(0, 1)
    assert still.jerk is not None
    assert still.chunk_latency_ms is not None
