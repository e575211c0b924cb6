"""An attempt at a task: the same for the same seed, and judged by what happens in the scene."""

import numpy as np
import pytest

from vla_runtime.errors import BadInput
from vla_runtime.safety.limits import PIPER_LIMITS
from vla_runtime.sim.episode import HOVER, TASKS, Episode, instruction, spot_beside
from vla_runtime.sim.inverse_kinematics import joints_at
from vla_runtime.sim.scene import CUBE_SIZE, CUBES


@pytest.fixture(scope="module", params=TASKS)
def episode(request):
    return Episode(request.param, 0, render=False)


@pytest.fixture(scope="module")
def of_task():
    return {task: Episode(task, 0, render=False) for task in TASKS}


def world(episode):
    scene = episode.scene
    return np.concatenate([scene.data.qpos, scene.model.cam_pos.ravel(), scene.model.light_diffuse.ravel()])


def above(place, height):
    return place + height * np.eye(3)[2]


def put(episode, colour, position, upside=(1.0, 0.0, 0.0, 0.0)):
    """Move a cube there by hand and let it come to rest, the arm staying where it is."""
    joint = episode.scene.model.joint(colour)
    episode.scene.data.qpos[joint.qposadr[0] : joint.qposadr[0] + 7] = (*position, *upside)
    episode.scene.data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = 0
    for _ in range(3):
        episode.advance(episode.scene.commanded)


def test_the_same_seed_is_the_same_episode(episode):
    episode.restart(5)
    first, words = world(episode), episode.instruction
    episode.restart(6)
    assert not np.array_equal(world(episode), first)
    again = Episode(episode.task, 5, render=False)
    np.testing.assert_array_equal(world(again), first)
    assert again.instruction == words


def test_another_name_leaves_the_scene_as_it_is(episode):
    for seed in range(10):
        episode.restart(seed)
        scene, goal = world(episode), episode.goal
        for colour in CUBES:
            episode.restart(seed, colour=colour)
            np.testing.assert_array_equal(world(episode), scene)
            assert episode.colour == colour
            assert colour in episode.instruction
            assert episode.goal != colour
            if goal not in (None, colour):
                assert episode.goal == goal


def test_every_cube_is_named(episode):
    names = []
    for seed in range(60):
        episode.restart(seed)
        names.append(episode.colour)
    assert min(names.count(cube) for cube in CUBES) >= 8


def test_tasks_in_words():
    assert instruction("reach", "red") == "reach the red cube"
    assert instruction("lift", "green") == "pick up the green cube"
    assert instruction("place", "blue", "red") == "put the blue cube beside the red cube"


def test_the_arm_starts_within_its_limits_and_every_cube_in_its_reach(episode):
    for seed in range(40):
        episode.restart(seed)
        assert np.all(episode.state[:6] > PIPER_LIMITS.lower[:6])
        assert np.all(episode.state[:6] < PIPER_LIMITS.upper[:6])
        for cube in episode.scene.cube_positions().values():
            joints_at(above(cube, HOVER), 0.0)  # or ValueError
        assert not episode.holding


def test_for_placing_there_is_room_beside_every_cube(of_task):
    for seed in range(40):
        of_task["place"].restart(seed)
        cubes = of_task["place"].scene.cube_positions()
        for cube, place in cubes.items():
            others = [position for other, position in cubes.items() if other != cube]
            assert min(np.linalg.norm(spot_beside(place) - other) for other in others) > 1.7 * CUBE_SIZE
            assert min(np.linalg.norm(place - other) for other in others) > 0.09  # nothing is beside it at the start


def test_time_passes_in_control_periods(episode):
    episode.restart(0)
    for _ in range(3):
        episode.advance(episode.scene.commanded)
    assert episode.time == pytest.approx(0.3)
    assert episode.scene.data.time == pytest.approx(0.3)
    episode.restart(0)
    assert episode.time == 0


def test_reaching_is_hovering_above_the_named_cube_and_staying(of_task):
    episode = of_task["reach"]
    episode.restart(1)
    cubes = episode.scene.cube_positions()
    other = next(cube for cube in CUBES if cube != episode.colour)
    for colour, expected in ((other, False), (episode.colour, True)):
        there = np.append(joints_at(above(cubes[colour], HOVER), 0.0), 0.05)
        start = episode.scene.commanded
        for step in range(1, 16):
            episode.advance(start + (there - start) * step / 15)
        for _ in range(3):
            episode.advance(there)
        assert episode.holding is expected
    assert episode.succeeded_at is not None
    assert episode.succeeded_at <= episode.time
    high = np.append(joints_at(above(cubes[episode.colour], HOVER + 0.05), 0.0), 0.05)
    for _ in range(10):
        episode.advance(high)
    assert not episode.holding
    assert episode.success  # it was there


def test_passing_over_the_cube_is_not_reaching_it(of_task):
    episode = of_task["reach"]
    episode.restart(1)
    cube = episode.scene.cube_positions()[episode.colour]
    radius, bearing = np.linalg.norm(cube[:2]), np.arctan2(cube[1], cube[0])
    for angle in np.arange(bearing - 0.5, bearing + 0.5, 0.09):
        over = (radius * np.cos(angle), radius * np.sin(angle), cube[2] + HOVER)
        episode.advance(np.append(joints_at(over, 0.0), 0.05))
    assert not episode.success


def test_a_cube_in_the_air_that_nobody_holds_is_not_lifted(of_task):
    episode = of_task["lift"]
    episode.restart(2)
    joint = episode.scene.model.joint(episode.colour)
    episode.scene.data.qpos[joint.qposadr[0] + 2] = 0.3
    episode.advance(episode.scene.commanded)
    assert episode.scene.cube_positions()[episode.colour][2] > 0.1
    assert not episode.success


def test_placing_takes_the_named_cube_beside_the_right_one_and_upright(of_task):
    episode = of_task["place"]
    episode.restart(3)
    other = next(cube for cube in CUBES if cube not in (episode.colour, episode.goal))
    cubes = episode.scene.cube_positions()
    put(episode, episode.colour, spot_beside(cubes[other]))
    assert not episode.holding
    put(episode, episode.colour, spot_beside(cubes[episode.goal]), upside=(np.sqrt(0.5), np.sqrt(0.5), 0, 0))
    assert not episode.holding  # on its side
    put(episode, episode.colour, spot_beside(cubes[episode.goal]))
    assert episode.holding
    assert episode.success


def test_a_cube_on_top_of_the_other_is_not_beside_it(of_task):
    episode = of_task["place"]
    episode.restart(3)
    put(episode, episode.colour, above(episode.scene.cube_positions()[episode.goal], CUBE_SIZE))
    assert not episode.holding


def test_pictures_are_the_same_for_the_same_seed_and_show_what_moves():
    first, second = Episode("lift", 8), Episode("lift", 3, image_size=64)
    second.restart(8)
    before = first.observe()
    assert list(before) == ["side", "wrist"]
    for camera, picture in second.observe().items():
        assert picture.shape == (64, 64, 3)
        assert picture.dtype == np.uint8
        np.testing.assert_array_equal(picture, before[camera])
    first.advance(first.scene.commanded + 0.1 * np.eye(7)[0])
    assert all(not np.array_equal(picture, before[camera]) for camera, picture in first.observe().items())
    first.close()
    second.close()


def test_without_rendering_there_is_nothing_to_see(episode):
    with pytest.raises(ValueError, match="render=False"):
        episode.observe()


def test_an_unknown_task_or_cube_is_refused():
    with pytest.raises(BadInput, match="'juggle' is unknown: choose from reach, lift, place"):
        Episode("juggle", 0)
    with pytest.raises(BadInput, match="'pink' is unknown: choose from red, green, blue"):
        Episode("lift", 0, colour="pink", render=False)
