"""Which bundles fit the simulated arm, and that noise follows the seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.toy_bundle import write_toy_bundle
from vla_evaluation.pilot import BundlePilot, executed_of, open_bundle
from vla_runtime.errors import BadInput
from vla_runtime.sim.scene import HOME

IMAGES = {name: np.full((32, 32, 3), 90, np.uint8) for name in ("side", "wrist")}


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> BundlePilot:
    return BundlePilot(open_bundle(write_toy_bundle(tmp_path_factory.mktemp("pilot") / "toy")))


def test_the_same_seed_gives_the_same_chunks(pilot: BundlePilot) -> None:
    def chunks(seed: int) -> np.ndarray:
        pilot.begin("reach the red cube", seed)
        return np.array([pilot.chunk(IMAGES, np.array(HOME)) for _ in range(3)])

    first = chunks(4)
    np.testing.assert_array_equal(chunks(4), first)
    assert not np.array_equal(chunks(5), first)
    assert not np.array_equal(first[0], first[1]), "each chunk has noise of its own"


def test_a_chunk_is_sixteen_targets_of_which_eight_are_executed(pilot: BundlePilot) -> None:
    pilot.begin("reach the red cube", 0)
    assert pilot.chunk(IMAGES, np.array(HOME)).shape == (16, 7)
    assert (pilot.horizon, pilot.executed) == (16, 8)
    assert [executed_of(horizon) for horizon in (2, 3, 50)] == [1, 1, 25]


def test_latency_is_of_this_episode_alone(pilot: BundlePilot) -> None:
    pilot.begin("reach the red cube", 0)
    assert pilot.latency is None
    pilot.chunk(IMAGES, np.array(HOME))
    assert pilot.latency is not None
    assert pilot.latency > 0
    pilot.begin("reach the red cube", 1)
    assert pilot.latency is None


def edited(directory: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    manifest = json.loads((directory / "manifest.json").read_text())
    change(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def test_other_cameras(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"sees front, wrist; the simulated scene has side, wrist"):
        open_bundle(write_toy_bundle(tmp_path / "toy", cameras=("front", "wrist")))
    with pytest.raises(BadInput, match=r"sees side; the simulated scene has side, wrist"):
        open_bundle(write_toy_bundle(tmp_path / "one", cameras=("side",)))


def test_the_order_of_the_cameras_is_the_bundles_own(tmp_path: Path) -> None:
    open_bundle(write_toy_bundle(tmp_path / "toy", cameras=("wrist", "side")))


def test_another_rate(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"come at 30 Hz; the tasks are run at 10 Hz"):
        open_bundle(write_toy_bundle(tmp_path / "toy", rate=30.0))


def test_other_joints(tmp_path: Path) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        manifest["action"]["dimensions"][0]["name"] = "shoulder"

    def change_unit(manifest: dict[str, Any]) -> None:
        manifest["state"]["dimensions"][6]["unit"] = "1"

    def turn_round(manifest: dict[str, Any]) -> None:
        manifest["state"]["dimensions"].reverse()

    with pytest.raises(BadInput, match=r"named: the policy's action has 'shoulder' in rad; this arm has joint1"):
        open_bundle(edited(write_toy_bundle(tmp_path / "named"), rename))
    with pytest.raises(BadInput, match=r"the policy's state has 'gripper' in 1"):
        open_bundle(edited(write_toy_bundle(tmp_path / "unit"), change_unit))
    with pytest.raises(BadInput, match=r"state is gripper, .* joint1; this arm's is joint1, .* gripper"):
        open_bundle(edited(write_toy_bundle(tmp_path / "order"), turn_round))
    with pytest.raises(BadInput, match=r"pose of the end effector"):
        open_bundle(write_toy_bundle(tmp_path / "pose", quantity="end_pose"))


def test_a_policy_that_speaks_the_sdks_integers_moves_the_arm_as_one_that_speaks_radians(
    pilot: BundlePilot, tmp_path: Path
) -> None:
    integers = BundlePilot(open_bundle(write_toy_bundle(tmp_path / "integers", units=("0.001deg", "0.001mm"))))
    for one in (pilot, integers):
        one.begin("reach the red cube", 0)
    expected = pilot.chunk(IMAGES, np.array(HOME))
    np.testing.assert_allclose(integers.chunk(IMAGES, np.array(HOME)), expected, atol=1e-6)


def test_a_bundle_without_float32_is_flown_in_what_it_has(tmp_path: Path) -> None:
    lean = BundlePilot(open_bundle(write_toy_bundle(tmp_path / "lean", precisions=("int8",))))
    lean.begin("reach the red cube", 0)
    assert lean.chunk(IMAGES, np.array(HOME)).shape == (16, 7)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is not a policy bundle"):
        open_bundle(tmp_path / "nothing")
