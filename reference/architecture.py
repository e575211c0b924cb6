"""Sizes of the trained reference policy, and the weights its training starts from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vla_export.models.blocks import GatedMLP, Layer, StackSize
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_export.models.stem import StemSize

SIZES = Pi0Config(
    vision=StemSize(channels=(32, 64, 96), width=128),
    language=StackSize(depth=8, width=128, mlp=256, heads=4, kv_heads=1, head_dim=32),
    expert=StackSize(depth=8, width=96, mlp=192, heads=4, kv_heads=1, head_dim=32),
    vocabulary=32,
    image_size=64,
    horizon=16,
    state_width=7,
    action_width=7,
)
RESIDUAL = 0.1  # of its usual size: a deep stack starts near the identity


def untrained(sizes: Pi0Config, generator: torch.Generator) -> Pi0:
    """A π0 whose convolutions start as arXiv 1502.01852 says and whose layers start near the identity."""
    model = Pi0(sizes)

    def fill(parameter: Tensor, std: float) -> None:
        parameter.copy_(std * torch.randn(parameter.shape, generator=generator))

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                gain = math.sqrt(2.0) if isinstance(module, nn.Conv2d) else 1.0
                fill(module.weight, gain / math.sqrt(module.weight[0].numel()))
                if module.bias is not None:
                    module.bias.zero_()
        fill(model.embedding.weight, 1.0 / math.sqrt(sizes.language.width))  # the model multiplies by the root
        fill(model.vision.position_embedding, 0.5)
        for stack in model.stacks().values():
            for layer in stack:
                for linear in _outputs(layer):
                    linear.weight.mul_(RESIDUAL)
        model.action_out_proj.weight.mul_(RESIDUAL)
    return model


def _outputs(layer: Layer) -> tuple[nn.Linear, ...]:
    """The linears that write to the residual stream."""
    last = layer.mlp.down_proj if isinstance(layer.mlp, GatedMLP) else layer.mlp.fc2
    assert isinstance(last, nn.Linear)
    return layer.attention.o_proj, last
