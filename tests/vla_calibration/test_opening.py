from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from vla_calibration.captured import CapturedRecording
from vla_calibration.dataset import CalibrationSet, StateDimension, write
from vla_calibration.lerobot_dataset import LeRobotRecording
from vla_calibration.opening import open_recording
from vla_calibration.recording import PolicyInputs
from vla_runtime.errors import BadInput


def capture(root: Path, inputs: PolicyInputs) -> Path:
    dimensions = tuple(
        StateDimension.model_validate(d.model_dump(include={"name", "unit"})) for d in inputs.state.dimensions
    )
    images = {camera: np.zeros((2, 4, 4, 3), np.uint8) for camera in inputs.cameras}
    write(CalibrationSet(images, np.zeros((2, 7), np.float32), np.arange(2.0), dimensions, None), root)
    return root


def test_the_files_tell_the_kind_whatever_the_directory_is_called(
    tmp_path: Path, goldens: Path, inputs: PolicyInputs
) -> None:
    dataset = Path(shutil.copytree(goldens / "lerobot_dataset_v3.0", tmp_path / "bag"))
    assert isinstance(open_recording(dataset, inputs), LeRobotRecording)
    assert isinstance(open_recording(capture(tmp_path / "lerobot", inputs), inputs), CapturedRecording)


def test_what_is_no_recording_and_what_is_two(tmp_path: Path, goldens: Path, inputs: PolicyInputs) -> None:
    with pytest.raises(
        BadInput, match=r"is no recording: expected calibration.json .*, meta/info.json .* metadata.yaml"
    ):
        open_recording(tmp_path, inputs)
    both = capture(tmp_path / "both", inputs)
    shutil.copytree(goldens / "lerobot_dataset_v3.0", both, dirs_exist_ok=True)
    with pytest.raises(BadInput, match=r"has calibration.json and meta/info.json: put each recording into a directory"):
        open_recording(both, inputs)
