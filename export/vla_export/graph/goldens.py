"""The reference outputs a bundle carries: what PyTorch answers to a few samples in float32, with their fixed noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vla_export.float32 import float32
from vla_export.models.flow_model import FlowModel
from vla_export.sample import Sample
from vla_runtime.bundle.golden import GoldenSample, GuidedStep
from vla_runtime.policy.rtc import prefix_weights


@torch.no_grad()
def make_goldens(
    model: FlowModel, samples: Sequence[Sample], flow_steps: int, guided: bool = False
) -> list[GoldenSample]:
    """Run every sample in float32 arithmetic; tensors are those of `vla_runtime.bundle.manifest.Manifest`.

    guided: a steered step too.
    """
    with float32(model):
        return [_golden(model, sample, flow_steps, guided) for sample in samples]


def _golden(model: FlowModel, sample: Sample, flow_steps: int, guided: bool) -> GoldenSample:
    prefix = model.encode(sample.observed)
    start, end = sample.noise.new_tensor([1.0]), sample.noise.new_tensor([1.0 - 1.0 / flow_steps])
    chunk = model.sample(prefix, sample.noise, flow_steps)
    return GoldenSample(
        inputs={name: tensor.numpy() for name, tensor in sample.observed.items()},
        noise=sample.noise.numpy(),
        prefix={name: tensor.numpy() for name, tensor in prefix.items()},
        step=model.denoise(sample.noise, start, end, prefix).numpy(),
        chunk=chunk.numpy(),
        guided=_guided(model, prefix, sample.noise, chunk, flow_steps) if guided else None,
    )


def _guided(
    model: FlowModel, prefix: Mapping[str, Tensor], noise: Tensor, chunk: Tensor, flow_steps: int
) -> GuidedStep:
    """A step from the middle of the flow, towards the chunk run backwards: as far from it as actions are apart."""
    horizon = chunk.shape[1]
    frozen = horizon // 4
    inputs = {
        "chunk": (noise + chunk) / 2,
        "time": noise.new_tensor([0.5]),
        "next_time": noise.new_tensor([0.5 - 1.0 / flow_steps]),
    }
    weights = prefix_weights(horizon, frozen, horizon - frozen, "exponential")
    towards = {
        "previous": chunk.flip(1),
        "weights": torch.from_numpy(weights)[None, :, None],
        "beta": noise.new_tensor([5.0]),
    }
    results = {
        "free": model.denoise(**inputs, prefix=prefix),
        "next_chunk": model.guided(**inputs, prefix=prefix, **towards),
    }
    return GuidedStep(**{name: tensor.numpy() for name, tensor in (inputs | towards | results).items()})
