"""Recordings of the expert: what vla-export reads is what the expert saw, and nobody sees the same scene twice."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reference.demonstrations import HELD_OUT as FIRST_DEMONSTRATION
from results import lerobot_files, observations
from results.moment import Moment
from vla_calibration.opening import open_recording
from vla_calibration.recording import Moment as Recorded
from vla_calibration.recording import PolicyInputs
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space
from vla_runtime.policy.observation import Observation

STATE = Space(
    dimensions=tuple(Dimension(name=name, unit="m" if name == "gripper" else "rad") for name in JOINT_NAMES),
    normalisation=Normalisation(mode="identity", offset=(0.0,) * 7, scale=(1.0,) * 7),
    padded_to=7,
)
INPUTS = PolicyInputs({"side": "side", "wrist": "wrist"}, STATE)


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two episodes of a task and eight held-out moments, in a directory of their own."""
    monkeypatch.setattr(observations, "OUT", tmp_path)
    monkeypatch.setattr(observations, "_EPISODES", 2)
    monkeypatch.setattr(observations, "HELD_OUT", 8)
    observations.held_out.cache_clear()
    return tmp_path


def random_moments(instruction: str, count: int, seed: int) -> list[Moment]:
    generator = np.random.default_rng(seed)
    return [
        Moment(
            Observation(
                {camera: generator.integers(0, 256, (6, 8, 3), dtype=np.uint8) for camera in ("side", "wrist")},
                generator.standard_normal(7),
            ),
            instruction,
            np.zeros((16, 7)),
        )
        for _ in range(count)
    ]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    episodes = [random_moments("reach the red cube", 3, 0), random_moments("reach the blue cube", 2, 1)]
    lerobot_files.write(tmp_path / "set", episodes)
    recording = open_recording(tmp_path / "set", INPUTS)
    assert [(e.number, e.task, list(e.frames)) for e in recording.episodes] == [
        (0, "reach the red cube", [0, 1, 2]),
        (1, "reach the blue cube", [0, 1]),
    ]
    found = dict(recording.read([Recorded(0, n) for n in range(3)] + [Recorded(1, n) for n in range(2)]))
    for (episode, frame), observation in found.items():
        written = episodes[episode][frame].observation
        for camera, image in written.images.items():
            np.testing.assert_array_equal(observation.images[camera], image)
        np.testing.assert_allclose(observation.state, written.state, rtol=1e-6)


def test_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none without frames"):
        lerobot_files.write(tmp_path / "set", [[]])
    empty = Observation({"side": np.zeros((0, 0, 3), dtype=np.uint8)}, np.zeros(7))
    with pytest.raises((ValueError, cv2.error)):
        lerobot_files.write(tmp_path / "set", [[Moment(empty, "reach the red cube", np.zeros((16, 7)))]])
    assert not list(tmp_path.iterdir())


def test_a_calibration_recording_has_every_task_and_is_kept(few: Path) -> None:
    directory = observations.calibration(("reach", "lift"), False)
    recording = open_recording(directory, INPUTS)
    assert [str(episode.task).split()[0] for episode in recording.episodes] == ["reach", "reach", "pick", "pick"]
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    assert observations.calibration(("reach", "lift"), False) == directory
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_shifted_scenes_are_the_same_seen_from_elsewhere(few: Path) -> None:
    plain, shifted = (observations.held_out(("reach",), shifted) for shifted in (False, True))
    assert len(plain) == len(shifted) == 8
    for before, after in zip(plain, shifted, strict=True):
        np.testing.assert_allclose(before.observation.state, after.observation.state)
        np.testing.assert_allclose(before.expert, after.expert)
        assert np.abs(before.observation.images["side"].astype(int) - after.observation.images["side"]).mean() > 5
    assert observations.calibration(("reach",), True) != observations.calibration(("reach",), False)


def test_held_out_moments_are_of_every_task_and_say_what_the_expert_does(few: Path) -> None:
    moments = observations.held_out(("reach", "lift"), False)
    assert [moment.instruction.split()[0] for moment in moments] == ["reach"] * 4 + ["pick"] * 4
    for moment in moments:
        assert moment.expert.shape == (16, 7)
        assert np.abs(moment.expert[0, :6] - moment.observation.state[:6]).max() < 0.5


def test_seeds_are_nobody_elses() -> None:
    starts = [0, observations._CALIBRATION_SEEDS, observations._HELD_OUT_SEEDS, FIRST_DEMONSTRATION]
    assert starts == sorted(starts)
    assert min(np.diff(starts)) >= 100_000
