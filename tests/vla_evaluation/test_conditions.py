"""Suites: every name is one file's name, and every suite has its undisturbed baseline."""

from __future__ import annotations

import re
from dataclasses import astuple

import pytest

from vla_evaluation.case import Case, cases
from vla_evaluation.conditions import SUITES, Condition, conditions
from vla_evaluation.request import Request
from vla_evaluation.staging import another, stage
from vla_runtime.sim.episode import CONTROL_PERIOD, Episode
from vla_runtime.sim.scene import CUBES


def test_the_suites_are_those_promised() -> None:
    assert set(SUITES) == {"light", "camera-shift", "side-camera", "distractors", "latency", "dropped-frames"}


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_starts_undisturbed_and_gets_stronger(suite: str) -> None:
    first, *ladder = conditions(suite)
    assert first == Condition("nominal")
    strengths = [(*astuple(c.perturbation), c.latency, c.dropped) for c in (first, *ladder)]
    assert strengths == sorted(set(strengths))
    assert sum(any(column) for column in zip(*strengths, strict=True)) == 1, "one thing is perturbed at a time"


def test_lateness_is_whole_control_periods() -> None:
    for condition in SUITES["latency"]:
        assert condition.latency / CONTROL_PERIOD == pytest.approx(round(condition.latency / CONTROL_PERIOD))


def test_every_episode_has_its_own_name_and_a_file_can_have_it(tmp_path: object) -> None:
    planned = [
        Case(bundle, condition, "reach", seed, False)
        for suite in SUITES
        for condition in SUITES[suite]
        for bundle in ("bundle", "against")
        for seed in (0, 1, 10)
    ]
    keys = {case.key for case in planned}
    assert len(keys) == len(planned)
    assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in keys)


def test_cases_are_every_seed_under_every_condition_with_every_bundle(tmp_path: object) -> None:
    from pathlib import Path

    request = Request(Path("a"), Path("b"), "reach", 3, 5, "runtime", "distractors", False)
    planned = cases(request)
    assert len(planned) == 3 * 3 * 2
    assert sorted({case.seed for case in planned}) == [5, 6, 7]
    assert {case.bundle for case in planned} == {"bundle", "against"}
    assert [case.seed for case in planned] == sorted(case.seed for case in planned)


@pytest.mark.parametrize("task", ["reach", "lift", "place"])
def test_swapped_the_same_scene_has_another_cube_named(task: str) -> None:
    own, swapped = Episode(task, 99, render=False), Episode(task, 99, render=False)
    for seed in range(6):
        stage(own, Case("bundle", Condition("nominal"), task, seed, False))
        stage(swapped, Case("bundle", Condition("nominal"), task, seed, True))
        assert swapped.colour == another(own.colour) != own.colour
        assert swapped.colour in swapped.instruction
        assert swapped.goal != swapped.colour
        assert {colour: tuple(at) for colour, at in own.scene.cube_positions().items()} == {
            colour: tuple(at) for colour, at in swapped.scene.cube_positions().items()
        }


def test_every_cube_is_named_instead_of_some_other() -> None:
    assert {another(colour) for colour in CUBES} == set(CUBES)
