"""Which kind of recording a directory is, by what lies in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from vla_calibration import dataset, lerobot_info, rosbag
from vla_calibration.captured import CapturedRecording
from vla_calibration.lerobot_dataset import LeRobotRecording
from vla_calibration.recording import PolicyInputs, Recording
from vla_runtime.errors import BadInput

# The file that only this kind has → what reads it.
KINDS: Mapping[str, Callable[[Path, PolicyInputs], Recording]] = MappingProxyType(
    {
        dataset.DESCRIPTION: CapturedRecording,
        lerobot_info.FILE: LeRobotRecording,
        rosbag.METADATA: rosbag.BagRecording,
    }
)


def open_recording(root: Path, inputs: PolicyInputs) -> Recording:
    """Open what ``root`` holds; raises `BadInput` where that is no recording, or none of what the policy observes."""
    found = [kind for kind in KINDS if (root / kind).is_file()]
    if not found:
        raise BadInput(
            f"{root} is no recording: expected {dataset.DESCRIPTION} (of vla-calibrate capture), {lerobot_info.FILE} "
            f"(of a LeRobot dataset) or {rosbag.METADATA} (of a rosbag)"
        )
    if len(found) > 1:
        raise BadInput(f"{root} has {' and '.join(found)}: put each recording into a directory of its own")
    return KINDS[found[0]](root, inputs)
