"""``deployment.yaml``: what a robot must know of a policy and its checkpoint does not say.

    rate: 10                        # actions per second
    state:                          # one entry per number, in the policy's order and in the units it was trained with
      - {name: joint1, unit: 0.001deg, lower: -150000, upper: 150000}
      - {name: gripper, unit: 0.001mm}
    action:
      - {name: joint1, unit: 0.001deg}
      - {name: gripper, unit: 0.001mm}

That much is needed; the rest is for policies that need it:

    quantity: {state: joints, action: end_pose}     # joints where it is not said; end_pose: x, y, z, rx, ry, rz
    relative_actions: [joint1]                      # numbers of the action that count from the same number of the state
    cameras: {top: side}                            # the policy's name of a camera: the robot's name of it
    missing_cameras: [right_wrist]                  # cameras of the policy, by its names, that the robot does not have

``unit`` is rad, deg or 0.001deg for an angle, m, mm or 0.001mm for a length, 1 for a plain number; 0.001deg and 0.001mm
are the integers of the PiPER's SDK. ``lower`` and ``upper`` are in the same unit and may be left out. A relative number
has the name and unit of the same number of the state. ``relative_actions`` is for layouts that do not record it, such
as openpi's; a camera that is missing was masked out of every attention in training, so leaving it out changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vla_export.checkpoints.documents import read_yaml, validate
from vla_runtime.bundle.manifest import Dimension
from vla_runtime.errors import BadInput

FILE = "deployment.yaml"

Quantity = Literal["joints", "end_pose"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quantities(_Part):
    """What the numbers of each space are: joint positions, or the pose of the end effector."""

    state: Quantity = "joints"
    action: Quantity = "joints"


class Deployment(_Part):
    """The contents of the file.

    rate: actions per second. relative_actions: None where the file does not say, empty where it says that none is.
    cameras: the policy's name → the robot's name. missing_cameras: the policy's names.
    """

    rate: float = Field(gt=0, allow_inf_nan=False)
    state: tuple[Dimension, ...]
    action: tuple[Dimension, ...]
    quantity: Quantities = Quantities()
    relative_actions: tuple[str, ...] | None = None
    cameras: dict[str, str] = Field(default_factory=dict)
    missing_cameras: tuple[str, ...] = ()

    @field_validator("state", "action", mode="before")
    @classmethod
    def _yaml_reads_a_plain_1_as_a_number(cls, entries: Any) -> Any:
        if not isinstance(entries, list):
            return entries
        return [e | {"unit": "1"} if isinstance(e, dict) and e.get("unit") == 1 else e for e in entries]

    @model_validator(mode="after")
    def _names_agree(self) -> Deployment:
        for what, dimensions in (("state", self.state), ("action", self.action)):
            if len({d.name for d in dimensions}) != len(dimensions):
                raise ValueError(f"two entries of {what} have the same name")
        observed = {d.name: (n, d.unit) for n, d in enumerate(self.state)}
        commanded = {d.name: (n, d.unit) for n, d in enumerate(self.action)}
        for name in self.relative_actions or ():
            if name not in commanded:
                raise ValueError(f"relative_actions names {name}, the action has {', '.join(commanded)}")
            if observed.get(name) != commanded[name]:
                raise ValueError(f"{name} is relative, but at its place the state has no {name} in the same unit")
        if len(set(self.cameras.values())) != len(self.cameras):
            raise ValueError("two cameras get the same name")
        for name in self.missing_cameras:
            if name in self.cameras:
                raise ValueError(f"camera {name} is both missing and renamed")
        return self

    def relative(self) -> tuple[bool, ...]:
        """Of each number of the action, whether it is relative; empty where the file names none."""
        named = self.relative_actions or ()
        return tuple(d.name in named for d in self.action) if named else ()

    def robot_cameras(self, cameras: tuple[str, ...]) -> dict[str, str]:
        """The policy's name → the robot's name of every camera that the robot has, in the policy's order.

        cameras: the policy's names. Raises `BadInput` for a name in the file that is not among them, where none is
        left, and where two would have the same name.
        """
        for key, names in (("missing_cameras", self.missing_cameras), ("cameras", tuple(self.cameras))):
            for name in names:
                if name not in cameras:
                    raise BadInput(f"{FILE}: {key} names {name}; the policy's cameras are {', '.join(cameras)}")
        found = {name: self.cameras.get(name, name) for name in cameras if name not in self.missing_cameras}
        if not found:
            raise BadInput(f"{FILE}: missing_cameras leaves none of the policy's cameras: it needs at least one")
        if len(set(found.values())) != len(found):
            raise BadInput(f"{FILE}: cameras gives a camera the name of another one: {', '.join(found.values())}")
        return found


def read_deployment(directory: Path, state: int, action: int) -> Deployment:
    """Read the file of a checkpoint whose state and action have so many numbers; raises `BadInput`."""
    path = directory / FILE
    if not path.is_file():
        raise BadInput(
            f"no {FILE} in {directory}: the checkpoint does not say rate, names and units of its actions; write it "
            f"with 'rate: <actions per second>', 'state:' a list of {state} and 'action:' a list of {action} entries "
            "like '- {name: joint1, unit: rad, lower: -2.6, upper: 2.6}' "
            "(units: rad, deg, 0.001deg, m, mm, 0.001mm, 1)"
        )
    deployment = validate(Deployment, read_yaml(path), path)
    for what, expected in (("state", state), ("action", action)):
        numbers = len(getattr(deployment, what))
        if numbers != expected:
            raise BadInput(f"{path}: {what} has {numbers} entries, the policy's {what} has {expected} numbers")
    return deployment
