"""``deployment.yaml``: what a robot must know of a policy and a LeRobot checkpoint does not say.

    rate: 10                # actions per second
    state:                  # one entry per number, in the policy's order; unit: rad, m or 1
      - {name: joint1, unit: rad, lower: -2.618, upper: 2.618}
    action:
      - {name: joint1, unit: rad, lower: -2.618, upper: 2.618}

``lower`` and ``upper`` may be left out.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from vla_export.checkpoints.documents import read_yaml, validate
from vla_runtime.bundle.manifest import Dimension
from vla_runtime.errors import BadInput

FILE = "deployment.yaml"


class Deployment(BaseModel):
    """The contents of the file; ``rate`` is in actions per second."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(gt=0, allow_inf_nan=False)
    state: tuple[Dimension, ...]
    action: tuple[Dimension, ...]


def read_deployment(directory: Path, state: int, action: int) -> Deployment:
    """Read the file of a checkpoint whose state and action have so many numbers; raises `BadInput`."""
    path = directory / FILE
    if not path.is_file():
        raise BadInput(
            f"no {FILE} in {directory}: the checkpoint does not say rate, names and units of its actions; write it "
            f"with 'rate: <actions per second>', 'state:' a list of {state} and 'action:' a list of {action} entries "
            "like '- {name: joint1, unit: rad, lower: -2.6, upper: 2.6}' (units: rad, m, 1)"
        )
    deployment = validate(Deployment, read_yaml(path), path)
    for what, expected in (("state", state), ("action", action)):
        dimensions = getattr(deployment, what)
        if len(dimensions) != expected:
            raise BadInput(f"{path}: {what} has {len(dimensions)} entries, the policy's {what} has {expected} numbers")
        if len({d.name for d in dimensions}) != len(dimensions):
            raise BadInput(f"{path}: two entries of {what} have the same name")
    return deployment
