"""The calibration set: real observations of the robot, as one directory that the workstation reads."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from vla_runtime.bundle.bundle import sha256
from vla_runtime.bundle.manifest import Sha256
from vla_runtime.errors import BadInput
from vla_runtime.policy.units import SIUnit

SCHEMA_VERSION: Final = 1
DESCRIPTION: Final = "calibration.json"
OBSERVATIONS: Final = "observations.safetensors"


class StateDimension(BaseModel):
    """One number of the state, and its unit: SI, whatever the policy that is calibrated speaks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: SIUnit


class Description(BaseModel):
    """The whole of ``calibration.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    cameras: tuple[str, ...] = Field(min_length=1)
    task: str | None
    state: tuple[StateDimension, ...] = Field(min_length=1)
    count: int = Field(gt=0)
    files: dict[Literal["observations.safetensors"], Sha256] = Field(min_length=1)


@dataclass(frozen=True)
class CalibrationSet:
    """N observations of the robot.

    images: per camera, RGB, in the size the camera gave. Shape (N, height, width, 3).
    state: joint positions in the units of ``dimensions``. Shape (N, n).
    stamps: capture times in [s] since the epoch. Shape (N,).
    task: what the robot was asked to do, None where nobody said.
    """

    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    stamps: NDArray[np.float64]
    dimensions: tuple[StateDimension, ...]
    task: str | None

    def __post_init__(self) -> None:
        n = len(self.stamps)
        if n == 0 or not self.images or self.stamps.ndim != 1:
            raise BadInput("a calibration set needs at least one observation of at least one camera")
        expected = (n, len(self.dimensions))
        if self.state.shape != expected:
            raise BadInput(f"the state of a calibration set has shape {self.state.shape}, not {expected}")
        for camera, images in self.images.items():
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[0] != n or images.shape[3] != 3:
                found = f"{images.dtype} {images.shape}"
                raise BadInput(f"the images of camera {camera} are {found}, not uint8 ({n}, height, width, 3)")

    def __len__(self) -> int:
        return len(self.stamps)


def write(calibration: CalibrationSet, target: Path) -> None:
    """Write a set beside ``target`` and rename it into place; raises `BadInput` where ``target`` exists already."""
    if target.exists():
        raise BadInput(f"{target} exists already: choose another directory, or remove it first")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir()
    try:
        observations = partial / OBSERVATIONS
        tensors = {f"images.{camera}": np.ascontiguousarray(images) for camera, images in calibration.images.items()}
        save_file(tensors | {"state": calibration.state, "stamps": calibration.stamps}, observations)
        description = Description(
            cameras=tuple(calibration.images),
            task=calibration.task,
            state=calibration.dimensions,
            count=len(calibration),
            files={OBSERVATIONS: sha256(observations)},
        )
        (partial / DESCRIPTION).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read(path: Path | str) -> CalibrationSet:
    """Read a set written by `write`; raises `BadInput` where it is not one, was changed, or is from a newer version."""
    root = Path(path)
    description = _description(root / DESCRIPTION)
    observations = root / OBSERVATIONS
    if not observations.is_file():
        raise BadInput(f"{root}: {OBSERVATIONS} is missing: copy the whole directory again")
    if sha256(observations) != description.files[OBSERVATIONS]:
        raise BadInput(f"{observations} is not the file that was captured (wrong SHA-256): copy it again")
    try:
        tensors = load_file(observations)
    except SafetensorError as error:
        raise BadInput(f"{observations} cannot be read ({error}): capture again") from error
    wanted = {"state", "stamps", *(f"images.{camera}" for camera in description.cameras)}
    if set(tensors) != wanted:
        raise BadInput(f"{observations} holds {', '.join(sorted(tensors))}; expected {', '.join(sorted(wanted))}")
    calibration = CalibrationSet(
        images={camera: tensors[f"images.{camera}"] for camera in description.cameras},
        state=tensors["state"],
        stamps=tensors["stamps"],
        dimensions=description.state,
        task=description.task,
    )
    if len(calibration) != description.count:
        raise BadInput(f"{root}: {len(calibration)} observations, but {DESCRIPTION} says {description.count}")
    return calibration


def _description(path: Path) -> Description:
    if not path.is_file():
        raise BadInput(
            f"{path.parent} is not a calibration set: it has no {DESCRIPTION}; make one with vla-calibrate capture"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid JSON ({error}): capture again") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise BadInput(
            f"{path}: schema_version is {version!r}, this version knows {SCHEMA_VERSION}: update, or capture again"
        )
    try:
        return Description.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}: capture again") from error
