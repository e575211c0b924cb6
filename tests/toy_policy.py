"""A π0 of a few thousand parameters with random weights, observations for it, and its action space."""

from __future__ import annotations

import torch

from vla_export.models.blocks import StackSize
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_export.sample import Sample
from vla_runtime.bundle.manifest import Dimension, Normalisation, Space

DEPTH = 6
FLOW_STEPS = 3
CONFIG = Pi0Config(
    vision=StackSize(depth=2, width=16, mlp=24, heads=2, kv_heads=2, head_dim=8),
    language=StackSize(depth=DEPTH, width=24, mlp=32, heads=2, kv_heads=1, head_dim=8),
    expert=StackSize(depth=DEPTH, width=16, mlp=24, heads=2, kv_heads=1, head_dim=8),
    vocabulary=40,
    image_size=8,
    patch_size=4,
    horizon=5,
    state_width=8,
    action_width=8,
)
ACTION = Space(
    dimensions=(
        *(Dimension(name=f"joint{n}", unit="rad") for n in range(1, 7)),
        Dimension(name="grip", unit="m"),
    ),
    normalisation=Normalisation(mode="mean_std", offset=(0.1,) * 7, scale=(0.5, 0.4, 0.3, 0.2, 0.6, 0.7, 0.02)),
    padded_to=8,
)


def toy_policy(seed: int = 0) -> Pi0:
    """Weights are drawn so that every layer changes the residual stream by about its own size."""
    generator = torch.Generator().manual_seed(seed)
    model = Pi0(CONFIG).eval().requires_grad_(False)
    for parameter in model.parameters():
        fan_in = parameter.shape[-1] if parameter.ndim > 1 else 10
        parameter.normal_(0.0, fan_in**-0.5, generator=generator)
    return model


def toy_samples(count: int, seed: int = 0) -> list[Sample]:
    """Two cameras and a task of two to four words, padded to four."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Sample(
            observed={
                "images": torch.rand(2, 3, 8, 8, generator=generator) * 2 - 1,
                "tokens": torch.randint(0, 40, (1, 4), generator=generator).int(),
                "token_mask": torch.arange(4)[None] < 2 + n % 3,
                "state": torch.randn(1, 8, generator=generator),
            },
            noise=torch.randn(1, 5, 8, generator=generator),
        )
        for n in range(count)
    ]
