"""What a change to the policy did to its actions, in the units the robot moves in: rad and m."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import WorkFailed
from vla_runtime.policy.units import SIUnit, si_factors, si_unit


class DimensionEffect(BaseModel):
    """Absolute error of one number of the action, over all samples and the whole horizon, in ``unit``."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: SIUnit
    mean_error: float
    max_error: float


class ActionEffect(BaseModel):
    """Actions of the changed policy against those of the policy before, for the same samples and noise.

    relative_error: ‖changed - reference‖ / ‖reference‖, and cosine: of the angle between the two, both over every
    sample, step and used dimension, normalised as the policy speaks them. worst_sample: index of the sample with the
    largest relative error of its own, which is ``worst_relative_error``.
    """

    model_config = ConfigDict(frozen=True)

    samples: int
    relative_error: float
    cosine: float
    worst_sample: int
    worst_relative_error: float
    dimensions: tuple[DimensionEffect, ...]


def compare_actions(reference: Sequence[Tensor], changed: Sequence[Tensor], action: Space) -> ActionEffect:
    """Compare chunk with chunk; each is (1, H, action.padded_to), normalised and padded, one per sample.

    Padding is left out. Raises WorkFailed where a chunk is not finite, or where a reference chunk is all zero and so
    has no relative error.
    """
    if not reference or len(reference) != len(changed):
        raise ValueError(f"{len(reference)} reference chunks against {len(changed)} changed ones")
    used = len(action.dimensions)
    before = torch.cat(tuple(reference))[..., :used].double()
    after = torch.cat(tuple(changed))[..., :used].double()
    for what, chunks in (("reference", before), ("changed", after)):
        broken = [n for n, chunk in enumerate(chunks) if not chunk.isfinite().all()]
        if broken:
            raise WorkFailed(f"{what} policy: the actions of sample {broken[0]} are not finite")
    norms = before.flatten(1).norm(dim=1)
    if not norms.all():
        raise WorkFailed(f"reference policy: the actions of sample {int(norms.argmin())} are all zero; expected motion")

    difference = after - before
    per_sample = difference.flatten(1).norm(dim=1) / norms
    in_si = difference.abs() * torch.from_numpy(np.abs(action.normalisation.scale) * si_factors(action))
    return ActionEffect(
        samples=len(before),
        relative_error=float(difference.norm() / before.norm()),
        cosine=float(torch.cosine_similarity(before.flatten(), after.flatten(), dim=0)),
        worst_sample=int(per_sample.argmax()),
        worst_relative_error=float(per_sample.max()),
        dimensions=tuple(
            DimensionEffect(
                name=dimension.name,
                unit=si_unit(dimension.unit),
                mean_error=float(in_si[..., n].mean()),
                max_error=float(in_si[..., n].max()),
            )
            for n, dimension in enumerate(action.dimensions)
        ),
    )
