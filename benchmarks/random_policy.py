"""Policies of any size with random weights, made in memory, and random observations for them."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from vla_export.graph.precision import half_parameters
from vla_export.models.flow_model import FlowModel
from vla_export.models.norms import RMSNorm
from vla_export.models.pi0 import Pi0Config
from vla_export.models.smolvla import SmolVLAConfig
from vla_export.sample import Sample
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space

FLOW_STEPS = 10
WORDS = 48
_SEEN_WORDS = 12
ACTION = Space(
    dimensions=(*(Dimension(name=f"joint{n}", unit="rad") for n in range(1, 7)), Dimension(name="grip", unit="m")),
    normalisation=Normalisation(mode="mean_std", offset=(0.0,) * 7, scale=(1.0,) * 7),
    padded_to=32,
)

_Policy = TypeVar("_Policy", bound=FlowModel)


def random_policy(kind: type[_Policy], config: SmolVLAConfig | Pi0Config, half: bool = False) -> _Policy:
    """A policy whose activations stay near one: variance 1 / fan-in, norms near the identity, small biases.

    half: stored as the fp16 graphs store it, never in more than its own size.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        model = kind(config)
    for name in half_parameters(model) if half else ():
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.half()
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    offsets = {f"{path}.weight": m.offset for path, m in model.named_modules() if isinstance(m, RMSNorm)}
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            identity = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.normal_(identity - offsets.get(name, 0.0), 0.02, generator=generator)
    return model


def random_sample(config: SmolVLAConfig | Pi0Config, cameras: int, number: int) -> Sample:
    """The observation of this number: smooth pictures, a task of a few words, a state; and noise of its own."""
    generator = torch.Generator().manual_seed(number)
    coarse = torch.rand(cameras, 3, 8, 8, generator=generator) * 2 - 1
    return Sample(
        observed={
            "images": nn.functional.interpolate(coarse, size=config.image_size, mode="bilinear"),
            "tokens": torch.randint(config.vocabulary, (1, WORDS), generator=generator).int(),
            "token_mask": torch.arange(WORDS)[None] < _SEEN_WORDS,
            "state": torch.randn(1, config.state_width, generator=generator),
        },
        noise=torch.randn(1, config.horizon, config.action_width, generator=generator),
    )
