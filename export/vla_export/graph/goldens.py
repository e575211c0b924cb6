"""The reference outputs a bundle carries: what PyTorch answers to a few samples in float32, with their fixed noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vla_export.float32 import float32
from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample
from vla_runtime.bundle.golden import GoldenSample


@torch.no_grad()
def make_goldens(model: FlowModel, samples: Sequence[Sample], flow_steps: int) -> list[GoldenSample]:
    """Run every sample in float32 arithmetic; tensors are those of `vla_runtime.bundle.manifest.Manifest`."""
    with float32(model):
        return [_golden(model, sample, flow_steps) for sample in samples]


def _golden(model: FlowModel, sample: Sample, flow_steps: int) -> GoldenSample:
    prefix = model.encode(sample.observed)
    start, end = sample.noise.new_tensor([1.0]), sample.noise.new_tensor([1.0 - 1.0 / flow_steps])
    return GoldenSample(
        inputs={name: tensor.numpy() for name, tensor in sample.observed.items()},
        noise=sample.noise.numpy(),
        prefix={name: tensor.numpy() for name, tensor in prefix.items()},
        step=model.denoise(sample.noise, start, end, prefix).numpy(),
        chunk=model.sample(prefix, sample.noise, flow_steps).numpy(),
    )
