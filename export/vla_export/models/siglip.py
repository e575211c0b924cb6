"""SigLIP's image tower (arXiv 2303.15343), as PaliGemma and SmolVLM use it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_export.models.blocks import Stack, StackSize, siglip_stack

SIGLIP_SO400M = StackSize(depth=27, width=1152, mlp=4304, heads=16, kv_heads=16, head_dim=72)
SIGLIP_BASE = StackSize(depth=12, width=768, mlp=3072, heads=12, kv_heads=12, head_dim=64)


class SiglipTower(nn.Module):
    """Images (C, 3, S, S) in [-1, 1] → patch features (C, (S / patch)², width), all cameras in one call."""

    def __init__(self, size: StackSize, image_size: int, patch_size: int) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, size.width, patch_size, stride=patch_size)
        self.position_embedding = nn.Parameter(torch.empty((image_size // patch_size) ** 2, size.width))
        self.stack = siglip_stack("vision", size)

    def stacks(self) -> tuple[Stack, ...]:
        """The stack it consists of."""
        return (self.stack,)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embedding(images.to(self.patch_embedding.weight.dtype)).float()
        x = patches.flatten(2).transpose(1, 2) + self.position_embedding.float()
        for layer in self.stack:
            x, _ = layer(x)
        assert self.stack.norm is not None
        return self.stack.norm(x)
