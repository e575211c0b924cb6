"""The simulated world: its kinematics against the manufacturer's, its motors, its cubes."""

import mujoco
import numpy as np
import pytest
from piper_sdk import C_PiperForwardKinematics

from vla_runtime.arms.piper_limits import firmware_limits
from vla_runtime.errors import WorkFailed
from vla_runtime.sim.scene import CUBE_SIZE, CUBES, HOME, Scene

CONTROL_PERIOD = 0.02
TILT = 0.01  # weight of pointing straight down against being there: joint 5 does not allow both everywhere


@pytest.fixture(scope="module")
def shared():
    return Scene()


@pytest.fixture
def scene(shared):
    shared.reset(0)
    return shared


def hold(scene, targets, seconds):
    for _ in range(round(seconds / CONTROL_PERIOD)):
        scene.apply(np.asarray(targets, dtype=float), CONTROL_PERIOD)


def glide(scene, targets, seconds):
    """Move there evenly, then wait a moment."""
    start, count = scene.data.ctrl.copy(), round(seconds / CONTROL_PERIOD)
    for step in range(1, count + 1):
        scene.apply(start + (np.asarray(targets) - start) * step / count, CONTROL_PERIOD)
    hold(scene, targets, 0.4)


def reach(scene, place):
    """Joints that bring the grasp point to ``place`` with the fingers pointing down as far as the wrist allows."""
    model, data = scene.model, mujoco.MjData(scene.model)
    data.qpos[:] = scene.data.qpos
    low, high = firmware_limits()[:6].T
    jacobian = np.zeros((6, model.nv))
    site = model.site("grasp").id
    for _ in range(200):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], site)
        pointing = data.site_xmat[site].reshape(3, 3)[:, 2]
        error = np.concatenate([place - data.site_xpos[site], TILT * np.cross(pointing, [0, 0, -1])])
        weighted = jacobian[:, scene._speeds] * np.array([[1]] * 3 + [[TILT]] * 3)
        change = weighted.T @ np.linalg.solve(weighted @ weighted.T + 1e-5 * np.eye(6), error)
        data.qpos[scene._angles] = np.clip(data.qpos[scene._angles] + change, low, high)
    return np.append(data.qpos[scene._angles], 0.06)


def test_every_link_is_where_the_manufacturers_kinematics_put_it(scene):
    manufacturer = C_PiperForwardKinematics(1)  # the zeros of firmware S-V1.6-3 and later
    rng = np.random.default_rng(0)
    low, high = firmware_limits()[:6].T
    for joints in [np.zeros(6), *rng.uniform(low, high, (100, 6))]:
        scene.data.qpos[scene._angles] = joints
        mujoco.mj_kinematics(scene.model, scene.data)
        expected = np.array([pose[:3] for pose in manufacturer.CalFK(joints)])
        measured = [scene.data.body(f"link{link}").xpos * 1000 for link in range(1, 7)]
        np.testing.assert_allclose(measured, expected, atol=0.01)  # [mm]


def test_the_flange_turns_as_the_manufacturers_kinematics_say(scene):
    joints = [0.3, 1.2, -1.0, 0.4, 0.5, -0.6]
    scene.data.qpos[scene._angles] = joints
    mujoco.mj_kinematics(scene.model, scene.data)
    roll, pitch, yaw = np.radians(C_PiperForwardKinematics(1).CalFK(joints)[5][3:])
    quaternion = np.zeros(4)
    mujoco.mju_euler2Quat(quaternion, [roll, pitch, yaw], "XYZ")
    expected = np.zeros(9)
    mujoco.mju_quat2Mat(expected, quaternion)
    np.testing.assert_allclose(scene.data.body("link6").xmat, expected, atol=1e-5)


def test_the_models_limits_are_the_firmwares(scene):
    ranges = np.array([scene.model.joint(f"joint{joint}").range for joint in range(1, 7)])
    np.testing.assert_allclose(ranges, firmware_limits()[:6], atol=1e-6)
    assert sum(scene.model.joint(name).range[1] for name in ("finger_left", "finger_right")) == pytest.approx(0.07)


def test_the_arm_holds_its_pose(scene):
    hold(scene, HOME, 5)
    np.testing.assert_allclose(scene.positions, HOME, atol=2e-3)
    np.testing.assert_allclose(scene.velocities, 0, atol=1e-3)


@pytest.mark.parametrize(
    "targets",
    [(1.0, 1.5, -1.5, 0.5, -0.5, 1.0, 0.07), (-1.2, 1.0, -0.7, -1.0, 0.8, -1.5, 0.0), (0, 0.2, -0.2, 0, 0, 0, 0.03)],
)
def test_commanded_joints_are_reached(scene, targets):
    glide(scene, targets, 2.0)
    np.testing.assert_allclose(scene.positions[:6], targets[:6], atol=5e-3)
    assert scene.positions[6] == pytest.approx(targets[6], abs=1e-3)


def test_the_table_stops_the_arm(scene):
    glide(scene, (0, 2.6, -1.2, 0, 1.0, 0, 0.05), 2.0)
    assert scene.data.site("grasp").xpos[2] > -0.02


@pytest.mark.parametrize("cube", CUBES)
def test_the_gripper_closes_on_a_cube_and_lifts_it(scene, cube):
    scene.reset(7)
    place = scene.cube_positions()[cube]
    turn = scene.data.body(cube).xmat.reshape(3, 3)
    yaw = np.arctan2(turn[1, 0], turn[0, 0])
    above, at, lifted = (reach(scene, place + np.array([0, 0, height])) for height in (0.07, 0.004, 0.10))
    lifted[6] = 0.0
    for targets in (above, at, lifted):  # the fingers along the cube's sides, whichever pair is nearer
        aside = targets[0] - targets[5] - yaw
        targets[5] += (aside + np.pi / 4) % (np.pi / 2) - np.pi / 4
    closed = np.append(at[:6], 0.0)
    glide(scene, above, 1.5)
    glide(scene, at, 1.0)
    glide(scene, closed, 0.5)
    assert scene.positions[6] == pytest.approx(CUBE_SIZE, abs=0.004)
    glide(scene, lifted, 1.5)
    hold(scene, lifted, 2.0)
    assert scene.cube_positions()[cube][2] > 0.09
    others = [other for other in CUBES if other != cube]
    assert all(scene.cube_positions()[other][2] == pytest.approx(CUBE_SIZE / 2, abs=2e-3) for other in others)


def test_the_same_seed_makes_the_same_world():
    def run(seed):
        scene = Scene(seed)
        hold(scene, np.array(HOME) + 0.1, 0.5)
        return scene.positions, scene.cube_positions()

    (first, first_cubes), (second, second_cubes) = run(3), run(3)
    np.testing.assert_array_equal(first, second)
    for cube in CUBES:
        np.testing.assert_array_equal(first_cubes[cube], second_cubes[cube])
    assert any(not np.array_equal(run(4)[1][cube], first_cubes[cube]) for cube in CUBES)


def test_reset_forgets_everything(scene):
    fresh = scene.cube_positions()
    hold(scene, (1, 2, -1, 0, 0, 0, 0.0), 1.0)
    scene.reset(0)
    np.testing.assert_allclose(scene.positions, HOME, atol=1e-12)
    np.testing.assert_array_equal(scene.velocities, np.zeros(7))
    for cube in CUBES:
        np.testing.assert_array_equal(scene.cube_positions()[cube], fresh[cube])


def test_cubes_lie_apart_and_stay_where_they_lie(scene):
    for seed in range(20):
        scene.reset(seed)
        start = scene.cube_positions()
        places = list(start.values())
        assert min(np.linalg.norm(a - b) for a, b in zip(places, places[1:] + places[:1], strict=True)) >= 0.075
        hold(scene, HOME, 0.2)
        for cube in CUBES:
            np.testing.assert_allclose(scene.cube_positions()[cube], start[cube], atol=1e-3)


def test_time_that_is_no_whole_step_is_owed(scene):
    for _ in range(200):
        scene.apply(np.array(HOME), 0.005)
    assert scene.data.time == pytest.approx(1.0, abs=0.0041)


def test_a_diverged_simulation_is_an_error(scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log where it stands
    scene.data.qvel[:] = 1e12
    with pytest.raises(WorkFailed, match="diverged"):
        scene.apply(np.array(HOME), 0.02)


def test_a_target_that_is_no_number_is_refused(scene):
    with pytest.raises(ValueError, match="finite"):
        scene.apply(np.full(7, np.nan), 0.02)
