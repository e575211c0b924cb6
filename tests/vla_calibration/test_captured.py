from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_calibration.captured import CapturedRecording
from vla_calibration.dataset import CalibrationSet, StateDimension, write
from vla_calibration.recording import Moment, PolicyInputs
from vla_runtime.arms.arm import JOINT_NAMES
from vla_runtime.errors import BadInput

RNG = np.random.default_rng(0)
ORDER = JOINT_NAMES[::-1]


def written(root: Path, cameras: tuple[str, ...] = ("wrist", "side", "top"), unit: str = "rad") -> CalibrationSet:
    captured = CalibrationSet(
        images={camera: RNG.integers(0, 256, (4, 6, 8, 3), dtype=np.uint8) for camera in cameras},
        state=RNG.normal(size=(4, 7)).astype(np.float32),
        stamps=np.arange(4.0),
        dimensions=tuple(StateDimension(name=n, unit="m" if n == "gripper" else unit) for n in ORDER),
        task="reach the red cube",
    )
    write(captured, root)
    return captured


def test_one_episode_of_the_cameras_and_joints_the_policy_has_by_name(tmp_path: Path, inputs: PolicyInputs) -> None:
    captured = written(tmp_path / "set")
    recording = CapturedRecording(tmp_path / "set", inputs)
    assert [(e.number, e.task, list(e.frames)) for e in recording.episodes] == [(0, "reach the red cube", [0, 1, 2, 3])]
    found = list(recording.read([Moment(0, 3), Moment(0, 1)]))
    assert [moment for moment, _ in found] == [Moment(0, 1), Moment(0, 3)]
    for (_, n), observation in found:
        assert set(observation.images) == {"side", "wrist"}
        np.testing.assert_array_equal(observation.images["side"], captured.images["side"][n])
        np.testing.assert_array_equal(observation.state, captured.state[n, ::-1])


def test_what_does_not_fit_the_policy_is_refused(tmp_path: Path, inputs: PolicyInputs) -> None:
    written(tmp_path / "blind", cameras=("side",))
    with pytest.raises(BadInput, match="no camera wrist: the policy sees side, wrist, the calibration set holds side"):
        CapturedRecording(tmp_path / "blind", inputs)
    written(tmp_path / "plain", unit="1")
    with pytest.raises(BadInput, match=r"joint1 \[1\]; the policy's is joint1 \[rad\]"):
        CapturedRecording(tmp_path / "plain", inputs)
