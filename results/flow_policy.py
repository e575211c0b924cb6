"""A policy from its checkpoint, ready to be trained further."""

from __future__ import annotations

import torch
from torch import Tensor

from reference.checkpoint import Statistics
from reference.learner import FlowLearner
from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.models.pi0 import Pi0
from vla_runtime.bundle.manifest import Space
from vla_runtime.errors import BadInput


def flow_learner(checkpoint: Checkpoint) -> FlowLearner:
    """A π0 as it was read, with the statistics it was trained with; nothing requires a gradient yet.

    Raises `BadInput` for a policy of another family or with other statistics than means and deviations.
    """
    if not isinstance(checkpoint.model, Pi0):
        raise BadInput(f"{checkpoint.root} is a {checkpoint.family} policy: only a π0 can be trained here")
    state, action = checkpoint.interface.state, checkpoint.interface.action
    for space in (state, action):
        if space.normalisation.mode != "mean_std":
            raise BadInput(f"{checkpoint.root} normalises by {space.normalisation.mode}: expected mean_std")
    return FlowLearner(checkpoint.model, Statistics(*_mean_and_std(state), *_mean_and_std(action)))


def _mean_and_std(space: Space) -> tuple[Tensor, Tensor]:
    return torch.tensor(space.normalisation.offset), torch.tensor(space.normalisation.scale)
