"""An episode's looks: a little different each time, more where they are perturbed, and never more than looks."""

import mujoco
import numpy as np
import pytest

from vla_runtime.sim.episode import Episode
from vla_runtime.sim.perturbation import NOMINAL, Perturbation

MIDDLE = np.array([0.27, 0.0, 0.0])  # [m], of the table
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


@pytest.mark.parametrize("perturbed", [LIGHT, CAMERA, DISTRACTORS, Perturbation(side_camera=0.5)])
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


@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_the_side_camera_goes_along_its_arc_the_same_way_every_time(episode, strength):
    for seed in range(3):
        _, places, turns, _ = looks(episode, seed, NOMINAL)
        _, moved, turned, _ = looks(episode, seed, Perturbation(side_camera=strength))
        side, wrist = (episode.scene.model.camera(name).id for name in ("side", "wrist"))
        np.testing.assert_array_equal(moved[wrist], places[wrist])
        np.testing.assert_array_equal(turned[wrist], turns[wrist])
        before, after = places[side] - MIDDLE, moved[side] - MIDDLE
        jitter = 0.005  # [m]: it is added after the arc, in the same direction as before
        assert after[2] == pytest.approx(before[2])
        assert np.hypot(*after[:2]) == pytest.approx(np.hypot(*before[:2]), abs=jitter)
        angle = np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0])
        assert angle == pytest.approx(strength * np.pi / 2, abs=0.02)


def test_the_side_camera_looks_at_the_same_point_from_everywhere(episode):
    centre = centre_seen(episode, NOMINAL)
    for strength in (0.25, 0.5, 1.0):
        np.testing.assert_allclose(centre_seen(episode, Perturbation(side_camera=strength)), centre, atol=0.01)


def centre_seen(episode, perturbed):
    """Where the side camera's axis meets the table [m], shape (2,)."""
    _, places, turns, _ = looks(episode, 0, perturbed)
    side = episode.scene.model.camera("side").id
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, turns[side])
    axis = -rotation.reshape(3, 3)[:, 2]
    at = places[side] - places[side][2] / axis[2] * axis
    # Turned back by the same angle about the middle, it would be the point that is seen from the first place.
    angle = -perturbed.side_camera * np.pi / 2
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return back @ (at - MIDDLE)[:2] + MIDDLE[:2]


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
