"""PaliGemma (arXiv 2407.07726) as a policy's eyes and ears, and the thinner Gemma that acts on what they perceive.

Images and words see each other. Their keys and values, layer by layer, are what the expert reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_export.models.attention import additive, rotation
from vla_export.models.blocks import Stack, StackSize, gemma_stack
from vla_export.models.flow_model import FlowModel
from vla_export.models.linears import through
from vla_export.models.siglip import SIGLIP_SO400M, SiglipTower
from vla_export.models.stem import ConvStem, StemSize

GEMMA_2B = StackSize(depth=18, width=2048, mlp=16_384, heads=8, kv_heads=1, head_dim=256)
GEMMA_300M = StackSize(depth=18, width=1024, mlp=4096, heads=8, kv_heads=1, head_dim=256)


@dataclass(frozen=True)
class PaliGemmaConfig:
    """Sizes that π0 and π0.5 share; the defaults are the published models'.

    Images are square, ``image_size`` pixels a side. The kind of ``vision`` says which tower sees: a `SiglipTower`, in
    patches of ``patch_size``, or a `ConvStem`.
    """

    vision: StackSize | StemSize = SIGLIP_SO400M
    language: StackSize = GEMMA_2B
    expert: StackSize = GEMMA_300M
    vocabulary: int = 257_152
    image_size: int = 224
    patch_size: int = 14
    horizon: int = 50
    action_width: int = 32
    min_period: float = 4e-3
    max_period: float = 4.0


def _tower(config: PaliGemmaConfig) -> SiglipTower | ConvStem:
    if isinstance(config.vision, StemSize):
        return ConvStem(config.vision, config.image_size)
    return SiglipTower(config.vision, config.image_size, config.patch_size)


@dataclass(frozen=True)
class Reading:
    """Images and words as the language model has read them.

    hidden: what leaves its last layer, (B, S, width), images before words; only training reads it. seen: which of the S
    tokens are no padding, (B, S). end: the position after the last of them, (B, 1). layers: each layer's keys and
    values, (B, kv_heads, S, head_dim).
    """

    hidden: Tensor
    seen: Tensor
    end: Tensor
    layers: tuple[tuple[Tensor, Tensor], ...]


class PaliGemmaPolicy(FlowModel):
    """SigLIP and Gemma read images and words, an expert of as many layers reads them and the actions."""

    config: PaliGemmaConfig

    def __init__(self, config: PaliGemmaConfig, expert: Stack) -> None:
        super().__init__()
        self.vision = _tower(config)
        self.projector = nn.Linear(config.vision.width, config.language.width)
        self.embedding = nn.Embedding(config.vocabulary, config.language.width)
        self.language = gemma_stack("language", config.language, "self", final_norm=False)
        self.expert = expert
        self.config = config

    def stacks(self) -> dict[str, Stack]:
        return {s.name: s for s in (*self.vision.stacks(), self.language, self.expert)}

    def coupled(self) -> tuple[tuple[str, ...], ...]:
        return (("language", "expert"),)

    def embed(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Images (B * C, 3, S, S) and words (B, T) as one sequence (B, C * patches + T, language width), float32."""
        seen = through(self.projector, self.vision(images))
        words = self.embedding(tokens).float() * self.language.width**0.5
        return torch.cat((seen.reshape(tokens.shape[0], -1, self.language.width), words), dim=1)

    def read(self, images: Tensor, tokens: Tensor, token_mask: Tensor) -> Reading:
        """What the language model makes of images (B * C, 3, S, S), a sample's cameras in a row, and words (B, T)."""
        x = self.embed(images, tokens)
        always = token_mask.new_ones(tokens.shape[0], x.shape[1] - tokens.shape[1])
        seen = torch.cat((always, token_mask), dim=1)
        positions = seen.int().cumsum(1) - 1
        visible = additive(seen)
        rope = rotation(positions, self.config.language.head_dim)
        layers = []
        for layer in self.language:
            x, past = layer(x, rope, visible)
            layers.append(past)
        return Reading(x, seen, positions[:, -1:] + 1, tuple(layers))

    def sight(self, prefix: Mapping[str, Tensor], horizon: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Where actions after a prefix stand, as a `rotation`, and the mask of what they see: it and each other."""
        seen = prefix["prefix_mask"]
        positions = seen.int().sum(1, keepdim=True) + torch.arange(horizon, device=seen.device)
        visible = additive(torch.cat((seen, seen.new_ones(seen.shape[0], horizon)), dim=1))
        return rotation(positions, self.config.expert.head_dim), visible
