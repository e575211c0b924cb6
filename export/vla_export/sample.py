"""One observation as the policy's tensors, and the noise its chunk starts from: what every measurement runs on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vla_export.models.flow_model import FlowModel


@dataclass(frozen=True)
class Sample:
    """Inputs of the encode graph and the noise of one chunk; shapes are those of the bundle's manifest.

    images: (C, 3, height, width) in [-1, 1]. tokens: (1, T) int32. token_mask: (1, T) bool.
    state: (1, state width), normalised and padded. noise: (1, H, action width), standard normal.
    """

    images: Tensor
    tokens: Tensor
    token_mask: Tensor
    state: Tensor
    noise: Tensor


@torch.no_grad()
def sample_actions(model: FlowModel, sample: Sample, flow_steps: int) -> Tensor:
    """The normalised, padded chunk (1, H, A) that the model answers to one sample."""
    prefix = model.encode(sample.images, sample.tokens, sample.token_mask, sample.state)
    return model.sample(prefix, sample.noise, flow_steps)
