"""A convolutional image tower: it learns to see from thousands of images, a transformer on patches needs millions.

Early convolutions in place of a patch embedding: arXiv 2106.14881; group norm: arXiv 1803.08494.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_export.models.blocks import Stack

GROUPS = 8
HALVING = 2  # the stride of every convolution


@dataclass(frozen=True)
class StemSize:
    """Channels after each halving of the image; one more halving leads to tokens of ``width`` numbers."""

    channels: tuple[int, ...]
    width: int

    @property
    def stride(self) -> int:
        """Pixels a side that become one token."""
        return HALVING ** (len(self.channels) + 1)


class GroupNorm(nn.GroupNorm):
    """Group norm computed and returned in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps)


class ConvLayer(nn.Module):
    """Convolution that halves the image → group norm → GELU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_in, channels_out, 2 * HALVING, stride=HALVING, padding=HALVING // 2)
        self.norm = GroupNorm(GROUPS, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """x (C, channels_in, S, S) → (C, channels_out, S / 2, S / 2), float32."""
        return F.gelu(self.norm(self.convolution(x.to(self.convolution.weight.dtype))))


class ConvStem(nn.Module):
    """Images (C, 3, S, S) in [-1, 1] → features (C, (S / stride)², width), all cameras in one call."""

    def __init__(self, size: StemSize, image_size: int) -> None:
        super().__init__()
        channels = (3, *size.channels)
        self.layers = nn.ModuleList(ConvLayer(a, b) for a, b in pairwise(channels))
        self.patch_embedding = nn.Conv2d(channels[-1], size.width, HALVING, stride=HALVING)
        self.position_embedding = nn.Parameter(torch.empty((image_size // size.stride) ** 2, size.width))

    def stacks(self) -> tuple[Stack, ...]:
        """None: no transformer layers."""
        return ()

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for layer in self.layers:
            x = layer(x)
        patches = self.patch_embedding(x.to(self.patch_embedding.weight.dtype)).float()
        return patches.flatten(2).transpose(1, 2) + self.position_embedding.float()
