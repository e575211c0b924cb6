"""An episode's looks: a little different each time, more where they are perturbed, and never more than looks."""

import numpy as np
import pytest

from vla_runtime.sim.episode import Episode
from vla_runtime.sim.perturbation import NOMINAL, Perturbation

LIGHT, CAMERA, DISTRACTORS = Perturbation(light=0.8), Perturbation(camera_shift=0.01), Perturbation(distractors=3)


@pytest.fixture(scope="module")
def episode():
    return Episode("lift", 0, render=False)


def looks(episode, seed, perturbed):
    episode.restart(seed, perturbation=perturbed)
    model = episode.scene.model
    shown = sum(model.body(f"object{number}").pos[2] > -1 for number in (1, 2, 3))
    return model.light_diffuse.copy(), model.cam_pos.copy(), model.cam_quat.copy(), shown


def state(episode):
    return np.concatenate([episode.state, *episode.scene.cube_positions().values()])


@pytest.mark.parametrize("perturbed", [LIGHT, CAMERA, DISTRACTORS])
def test_a_perturbation_changes_looks_and_never_the_task(episode, perturbed):
    for seed in range(5):
        episode.restart(seed)
        plain = state(episode), episode.instruction
        episode.restart(seed, perturbation=perturbed)
        np.testing.assert_array_equal(state(episode), plain[0])
        assert episode.instruction == plain[1]


def test_each_perturbation_changes_its_own_looks_only(episode):
    light, place, turn, _ = looks(episode, 3, NOMINAL)
    other_light, other_place, other_turn, _ = looks(episode, 3, LIGHT)
    assert np.abs(other_light / light - 1).max() > 0.2
    np.testing.assert_array_equal(other_place, place)
    np.testing.assert_array_equal(other_turn, turn)
    other_light, other_place, _, _ = looks(episode, 3, CAMERA)
    np.testing.assert_array_equal(other_light, light)
    assert np.linalg.norm(other_place - place, axis=1).max() == pytest.approx(0.01, rel=0.01)


def test_a_shifted_camera_still_has_an_orientation(episode):
    for seed in range(5):
        *_, turn, _ = looks(episode, seed, Perturbation(camera_shift=0.05))
        np.testing.assert_allclose(np.linalg.norm(turn, axis=1), 1, atol=1e-9)


def test_every_episode_varies_a_little(episode):
    lights, places, _, shown = zip(*(looks(episode, seed, NOMINAL) for seed in range(20)), strict=True)
    assert len({light.tobytes() for light in lights}) == 20
    assert len({place.tobytes() for place in places}) == 20
    assert set(shown) == {0, 1}


def test_distractors_lie_away_from_the_cubes(episode):
    for seed in range(20):
        assert looks(episode, seed, DISTRACTORS)[3] == 3
        objects = [episode.scene.model.body(f"object{number}").pos[:2] for number in (1, 2, 3)]
        for cube in episode.scene.cube_positions().values():
            assert min(np.linalg.norm(cube[:2] - place) for place in objects) >= 0.08


def test_what_was_perturbed_is_forgotten(episode):
    before = looks(episode, 4, NOMINAL)
    looks(episode, 9, Perturbation(light=1.0, camera_shift=0.03, distractors=3))
    for was, now in zip(before, looks(episode, 4, NOMINAL), strict=True):
        np.testing.assert_array_equal(was, now)
