"""A calibration set as a recording: one episode, whatever the robot did meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vla_calibration.dataset import CalibrationSet, read
from vla_calibration.recording import Episode, Moment, PolicyInputs
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput
from vla_runtime.policy.observation import Observation
from vla_runtime.policy.units import si_unit


class CapturedRecording:
    """What `vla-calibrate capture` wrote. Its cameras have the robot's names, its joints are in SI units."""

    def __init__(self, root: Path, inputs: PolicyInputs) -> None:
        """Raises `BadInput` where ``root`` cannot be read or does not fit the policy."""
        self._set = read(root)
        missing = sorted(set(inputs.cameras) - set(self._set.images))
        if missing:
            raise BadInput(
                f"{root} has no camera {', '.join(missing)}: the policy sees {', '.join(inputs.cameras)}, "
                f"the calibration set holds {', '.join(sorted(self._set.images))}"
            )
        self._cameras = tuple(inputs.cameras)
        self._joints = _joints(root, self._set, inputs.state)
        self.name = f"capture {root.name}"
        self.episodes = (Episode(0, self._set.task, range(len(self._set))),)

    def read(self, moments: Sequence[Moment]) -> Iterator[tuple[Moment, Observation]]:
        """See `Recording`."""
        for moment in sorted(moments):
            images = {camera: self._set.images[camera][moment.frame] for camera in self._cameras}
            yield moment, Observation(images, self._set.state[moment.frame, self._joints])


def _joints(root: Path, recorded: CalibrationSet, space: Space) -> list[int]:
    """Where the numbers of the policy's state are in the recorded one."""
    if space.quantity != "joints":
        raise BadInput(f"{root} holds joint positions; the policy's state is the pose of the end effector")
    found = [(d.name, d.unit) for d in recorded.dimensions]
    wanted = [(d.name, si_unit(d.unit)) for d in space.dimensions]
    if not set(wanted) <= set(found):
        holds, needs = (", ".join(f"{name} [{unit}]" for name, unit in joints) for joints in (found, wanted))
        raise BadInput(f"{root} holds the state {holds}; the policy's is {needs}")
    return [found.index(joint) for joint in wanted]
