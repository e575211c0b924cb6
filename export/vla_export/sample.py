"""One observation as the policy's tensors, and the noise its chunk starts from: what every measurement runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_export.float32 import float32
from vla_export.models.flow_model import FlowModel


@dataclass(frozen=True)
class Sample:
    """The encode graph's inputs by name and the noise of one chunk; tensors are those of the bundle's manifest.

    noise: (1, H, action width), standard normal.
    """

    observed: Mapping[str, Tensor]
    noise: Tensor


@torch.no_grad()
def sample_actions(model: FlowModel, sample: Sample, flow_steps: int) -> Tensor:
    """The normalised, padded chunk (1, H, A) that the model answers to one sample, in float32 arithmetic."""
    with float32(model):
        prefix = model.encode(sample.observed)
        return model.sample(prefix, sample.noise, flow_steps)
