"""The scripted expert: it succeeds, it stays within what the safety layer lets pass, and its labels are its deeds."""

import numpy as np
import pytest

from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.sim.episode import CONTROL_PERIOD, TASKS, Episode
from vla_runtime.sim.expert import HORIZON, Expert
from vla_runtime.sim.scene import CUBES

SEEDS = 20


@pytest.fixture(scope="module", params=TASKS)
def episode(request):
    return Episode(request.param, 0, render=False)


def attempt(episode, **noise):
    """Every target until the limit. Shape (steps, 7)."""
    expert, targets = Expert(episode, **noise), []
    while episode.time < episode.limit - 1e-9:
        targets.append(expert.act())
        episode.advance(targets[-1])
    return np.stack(targets)


def test_it_succeeds_and_keeps_what_it_achieved(episode):
    succeeded = holding = 0
    for seed in range(SEEDS):
        episode.restart(seed)
        attempt(episode)
        succeeded += episode.success
        holding += episode.holding
    assert succeeded >= 0.95 * SEEDS
    assert holding >= 0.95 * SEEDS


@pytest.mark.parametrize("noise", [0.0, 0.04])
def test_the_safety_layer_would_change_nothing(episode, noise):
    for seed in range(4):
        episode.restart(seed)
        start = episode.scene.commanded
        targets = attempt(episode, noise=noise, seed=seed)
        steps = np.diff(targets, axis=0, prepend=start[None])
        assert np.all(np.abs(steps) <= PIPER_LIMITS.velocity * CONTROL_PERIOD + 1e-9)
        assert np.all(targets >= PIPER_LIMITS.lower)
        assert np.all(targets <= PIPER_LIMITS.upper)


def test_it_does_the_same_again(episode):
    episode.restart(3)
    first = attempt(episode, noise=0.03, seed=1)
    episode.restart(3)
    np.testing.assert_array_equal(attempt(episode, noise=0.03, seed=1), first)
    episode.restart(3)
    assert not np.array_equal(attempt(episode, noise=0.03, seed=2), first)


def test_its_chunk_for_the_named_cube_is_what_it_then_does(episode):
    episode.restart(2)
    expert, chunks, targets = Expert(episode), [], []
    while episode.time < episode.limit - 1e-9:
        chunks.append(expert.chunk(episode.colour))
        targets.append(expert.act())
        episode.advance(targets[-1])
    assert chunks[0].shape == (HORIZON, 7)
    for start in range(len(targets) - HORIZON):
        np.testing.assert_allclose(chunks[start], targets[start : start + HORIZON], atol=1e-9)


def test_its_chunk_for_another_cube_is_what_it_does_when_that_one_is_named(episode):
    for seed in range(5):
        episode.restart(seed)
        named, goal = episode.colour, episode.goal
        others = [cube for cube in CUBES if cube not in (named, goal)]
        chunks = {cube: Expert(episode).chunk(cube) for cube in others}
        for cube in others:
            episode.restart(seed, colour=cube)
            expert, targets = Expert(episode), []
            for _ in range(HORIZON):
                targets.append(expert.act())
                episode.advance(targets[-1])
            np.testing.assert_allclose(chunks[cube], targets, atol=1e-9)
            episode.restart(seed)


def test_chunks_for_different_cubes_lead_to_different_places():
    episode = Episode("reach", 4, render=False)
    expert = Expert(episode)
    ends = [expert.chunk(cube, horizon=40)[-1] for cube in CUBES]
    assert min(np.abs(ends[a] - ends[b]).max() for a, b in ((0, 1), (0, 2), (1, 2))) > 0.05


def test_asking_for_chunks_changes_nothing():
    episode = Episode("lift", 6, render=False)
    plain = attempt(episode, noise=0.03, seed=0)
    episode.restart(6)
    expert, targets = Expert(episode, noise=0.03, seed=0), []
    while episode.time < episode.limit - 1e-9:
        for cube in CUBES:
            expert.chunk(cube)
            expert.chunk_beside(cube)
        targets.append(expert.act())
        episode.advance(targets[-1])
    np.testing.assert_array_equal(targets, plain)


def test_once_it_grasps_only_the_named_cube_has_a_chunk():
    episode = Episode("lift", 1, render=False)
    expert, meaningful = Expert(episode), []
    while episode.time < episode.limit - 1e-9:
        meaningful.append([expert.chunk(cube) is not None for cube in CUBES])
        episode.advance(expert.act())
    named = CUBES.index(episode.colour)
    assert all(row[named] for row in meaningful)
    others = [all(row) for row in meaningful]
    assert others[0]
    assert not others[-1]
    assert others == sorted(others, reverse=True)


def test_beside_another_cube_is_where_it_goes_when_that_one_is_the_goal():
    episode = Episode("place", 0, render=False)
    other = next(cube for cube in CUBES if cube not in (episode.colour, episode.goal))
    expert = Expert(episode)
    assert expert.chunk_beside(episode.goal) is None  # nothing is in the fingers yet
    assert expert.chunk(episode.goal) is None  # beside itself
    while expert.chunk_beside(other) is None:
        episode.advance(expert.act())
    np.testing.assert_allclose(expert.chunk_beside(episode.goal), expert.chunk(episode.colour), atol=1e-3)
    for targets in expert.chunk_beside(other, horizon=60):
        episode.advance(targets)
    episode.goal = other
    assert episode.holding


def test_it_comes_back_from_a_shove():
    episode = Episode("lift", 0, render=False)
    expert, shove = Expert(episode), np.array([0.08, 0, 0, 0.05, 0, 0, 0])
    for _ in range(6):
        episode.advance(expert.act())
    for _ in range(3):
        episode.advance(np.clip(expert.act() + shove, PIPER_LIMITS.lower, PIPER_LIMITS.upper))
    while episode.time < episode.limit - 1e-9:
        episode.advance(expert.act())
    assert episode.success


def test_it_grasps_again_a_cube_that_is_taken_from_it():
    episode = Episode("lift", 0, render=False)
    expert = Expert(episode)
    while not episode.holding:
        episode.advance(expert.act())
    joint = episode.scene.model.joint(episode.colour)
    start = joint.qposadr[0]
    episode.scene.data.qpos[start : start + 7] = (0.27, 0.0, 0.018, 1, 0, 0, 0)
    episode.scene.data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = 0
    episode.advance(expert.act())
    assert not episode.holding
    while episode.time < episode.limit - 1e-9:
        episode.advance(expert.act())
    assert episode.holding
