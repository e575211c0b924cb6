"""The statistics a VLA-GSE run trained with, against those the policy will command with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from vla_export.checkpoints.documents import read_json
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput

_TOLERANCE = 1e-4


class _Action(BaseModel):
    """1 % and 99 % quantiles of each dimension, and which dimensions are normalised by them (all by default)."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    q01: tuple[float, ...]
    q99: tuple[float, ...]
    mask: tuple[bool, ...] | None = None


class _DataSet(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    action: _Action


def check_action_statistics(path: Path, action: Space) -> None:
    """Raises `BadInput` where no data set in ``path`` (dataset_statistics.json) has the normalisation of ``action``.

    The release maps [-1, 1] to the range from q01 to q99, and leaves dimensions outside the mask as they are.
    """
    try:
        sets = TypeAdapter(dict[str, _DataSet]).validate_python(read_json(path))
    except ValidationError as error:
        fault = error.errors()[0]
        raise BadInput(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error
    ours = np.array((action.normalisation.offset, action.normalisation.scale))
    if not any(_agree(ours, _normalisation(found.action)) for found in sets.values()):
        raise BadInput(
            f"{path}: the policy's actions are normalised otherwise than any of {', '.join(sets)}; give the checkpoint "
            "the statistics of this run"
        )


def _normalisation(action: _Action) -> NDArray[np.float64]:
    """Offset and scale of each dimension, (2, dimensions)."""
    low, high = np.array(action.q01), np.array(action.q99)
    used = np.ones(len(low), dtype=bool) if action.mask is None else np.array(action.mask)
    return np.where(used, ((low + high) / 2, (high - low) / 2), (np.zeros_like(low), np.ones_like(low)))


def _agree(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    return ours.shape == theirs.shape and bool(np.all(np.abs(ours - theirs) <= _TOLERANCE * np.abs(theirs[1])))
