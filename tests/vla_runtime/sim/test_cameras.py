"""What the cameras see."""

import ctypes

import numpy as np
import pytest

from vla_runtime.errors import BadInput, WorkFailed
from vla_runtime.sim import cameras
from vla_runtime.sim.cameras import Cameras
from vla_runtime.sim.scene import CUBES, HOME, Scene


@pytest.fixture(scope="module")
def scene():
    return Scene()


def seen(picture, colour):
    """How many pixels are clearly of ``colour``."""
    channel = CUBES.index(colour)
    others = [other for other in range(3) if other != channel]
    level = picture.astype(int)
    return int(np.sum(level[..., channel] > 1.6 * level[..., others].max(axis=-1) + 10))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (224, 224), (480, 640)])
def test_pictures_have_the_asked_shape(scene, height, width):
    picture = Cameras(scene, height, width).render("side")
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10


@pytest.mark.parametrize("seed", range(4))
def test_the_side_camera_sees_three_coloured_cubes(scene, seed):
    scene.reset(seed)
    picture = Cameras(scene, 224, 224).render("side")
    for colour in CUBES:
        assert seen(picture, colour) > 150


def test_the_wrist_camera_sees_the_cube_under_the_gripper(scene):
    scene.reset(0)
    start = scene.model.joint("green").qposadr[0]
    scene.data.qpos[start : start + 2] = 0.30, 0.0
    scene.apply(np.array(HOME), 0.01)
    picture = Cameras(scene, 224, 224).render("wrist")
    assert seen(picture, "green") > 300


def test_a_picture_follows_the_scene(scene):
    scene.reset(0)
    view = Cameras(scene, 64, 64)
    before = view.render("side")
    np.testing.assert_array_equal(view.render("side"), before)
    scene.reset(1)
    assert not np.array_equal(view.render("side"), before)


def test_freeing_one_leaves_the_others(scene):
    kept = Cameras(scene, 64, 64)
    before = kept.render("side")
    Cameras(scene, 128, 128).render("side")  # freed at once by the garbage collector
    other = Cameras(scene, 32, 32)
    other.close()
    other.close()
    np.testing.assert_array_equal(kept.render("side"), before)


def test_an_unknown_camera_is_refused_with_the_known_ones(scene):
    with pytest.raises(BadInput, match="'top' is not in the scene: it has side, view, wrist"):
        Cameras(scene, 64, 64).render("top")


@pytest.mark.parametrize(("height", "width"), [(0, 64), (64, -1), (64, 100_000)])
def test_an_impossible_size_is_refused(scene, height, width):
    with pytest.raises(BadInput, match="pixels"):
        Cameras(scene, height, width)


def test_a_machine_without_drivers_is_told_what_to_install(scene, monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(WorkFailed, match="libegl1.*libosmesa6"):
        Cameras(scene, 64, 64)


def test_osmesa_is_taken_where_egl_finds_no_device(monkeypatch):
    monkeypatch.setattr(cameras, "_loads", lambda library: True)
    monkeypatch.setattr(cameras, "_egl_devices", lambda: 0)
    assert cameras._available() == "osmesa"
