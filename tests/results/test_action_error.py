"""Action errors of policies whose actions are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from results.action_error import action_error
from results.latency import median_interval, ratio
from results.moment import Moment
from tests.toy_bundle import write_toy_bundle
from vla_runtime.bundle.bundle import Bundle
from vla_runtime.errors import BadInput
from vla_runtime.policy.observation import Observation

STATE = np.array([0.1, 1.0, -1.0, 0.1, 0.1, 0.1, 0.03])
GOAL = np.array([0.2, 1.2, -0.8, 0.0, 0.3, -0.2, 0.02])
OFF = np.array([0.03, 0.0, 0.0, -0.06, 0.0, 0.0, 0.01])


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return {
        "at the goal": write_toy_bundle(root / "goal", goal=GOAL),
        "off": write_toy_bundle(root / "off", goal=GOAL + OFF),
        "shorter": write_toy_bundle(root / "shorter", goal=GOAL, horizon=8),
    }


@pytest.fixture
def moments() -> list[Moment]:
    grey = {camera: np.full((32, 32, 3), 128, dtype=np.uint8) for camera in ("side", "wrist")}
    expert = np.tile(GOAL, (16, 1))
    return [Moment(Observation(grey, STATE), task, expert) for task in ("reach the red cube", "hold still")]


def test_the_same_bundle_differs_in_nothing(bundles: dict[str, Path], moments: list[Moment]) -> None:
    found = action_error(bundles["at the goal"], bundles["at the goal"], moments)
    assert (found.mean_joint_rad, found.worst_share_of_scale, found.relative) == (0.0, 0.0, 0.0)
    assert found.expert_rad < 0.01  # words and pixels move the toy's actions by a thousandth


def test_a_known_offset(bundles: dict[str, Path], moments: list[Moment]) -> None:
    found = action_error(bundles["off"], bundles["at the goal"], moments)
    scale = np.array(Bundle.open(bundles["off"]).manifest.action.normalisation.scale)
    # The toy goes 99 % of the way to its goal.
    assert found.mean_joint_rad == pytest.approx(np.abs(OFF[:6]).mean(), rel=0.02)
    assert found.worst_share_of_scale == pytest.approx(np.abs(OFF / scale).max(), rel=0.02)
    assert found.expert_rad == pytest.approx(np.abs(OFF[:6]).mean(), rel=0.2)
    assert 0 < found.relative < 1


def test_other_horizons_are_not_compared(bundles: dict[str, Path], moments: list[Moment]) -> None:
    with pytest.raises(BadInput, match="other actions or horizons"):
        action_error(bundles["shorter"], bundles["at the goal"], moments)


def test_a_ratio_lies_in_its_interval(bundles: dict[str, Path]) -> None:
    middle, low, high = ratio(bundles["at the goal"], bundles["off"], 12)
    assert 0 < low <= middle <= high


def test_the_interval_of_a_median_covers_it_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    for n in (6, 20, 101):
        trials = [median_interval(generator.exponential(size=n).tolist()) for _ in range(2000)]
        covered = np.mean([low <= np.log(2) <= high for _, low, high in trials])
        assert 0.93 < covered < 0.99
    with pytest.raises(ValueError, match="needs 6"):
        median_interval([1.0] * 5)
