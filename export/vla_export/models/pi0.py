"""π0 (arXiv 2410.24164): SigLIP and Gemma read the observation, a second, thinner Gemma reads them and the actions.

Tokens attend in three groups: images and words see each other; the state sees them and itself; the actions see all.
The state's keys and values therefore do not depend on the actions and are part of the prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_export.models.blocks import (
    MASKED,
    Stack,
    StackSize,
    gemma_stack,
    linear_dtype,
    rotation,
    siglip_stack,
    sinusoid,
)
from vla_export.models.flow_model import FlowModel
from vla_export.models.stem import ConvStem, StemSize

GEMMA_2B = StackSize(depth=18, width=2048, mlp=16_384, heads=8, kv_heads=1, head_dim=256)
GEMMA_300M = StackSize(depth=18, width=1024, mlp=4096, heads=8, kv_heads=1, head_dim=256)
SIGLIP_SO400M = StackSize(depth=27, width=1152, mlp=4304, heads=16, kv_heads=16, head_dim=72)


@dataclass(frozen=True)
class Pi0Config:
    """Every size of a π0; the defaults are the published model's. Images are square, ``image_size`` pixels a side.

    The kind of ``vision`` says which tower sees: a `SiglipTower`, in patches of ``patch_size``, or a `ConvStem`.
    """

    vision: StackSize | StemSize = SIGLIP_SO400M
    language: StackSize = GEMMA_2B
    expert: StackSize = GEMMA_300M
    vocabulary: int = 257_152
    image_size: int = 224
    patch_size: int = 14
    horizon: int = 50
    state_width: int = 32
    action_width: int = 32
    min_period: float = 4e-3
    max_period: float = 4.0


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


def _tower(config: Pi0Config) -> SiglipTower | ConvStem:
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


class Pi0(FlowModel):
    """The whole policy; see the module's docstring for who sees whom."""

    def __init__(self, config: Pi0Config) -> None:
        super().__init__()
        self.config = config
        self.vision = _tower(config)
        self.projector = nn.Linear(config.vision.width, config.language.width)
        self.embedding = nn.Embedding(config.vocabulary, config.language.width)
        self.language = gemma_stack("language", config.language, "self", final_norm=False)
        self.expert = gemma_stack("expert", config.expert, "joint", final_norm=True)
        width = config.expert.width
        self.state_proj = nn.Linear(config.state_width, width)
        self.action_in_proj = nn.Linear(config.action_width, width)
        self.action_out_proj = nn.Linear(width, config.action_width)
        self.action_time_mlp_in = nn.Linear(2 * width, width)
        self.action_time_mlp_out = nn.Linear(width, width)

    def stacks(self) -> dict[str, Stack]:
        return {s.name: s for s in (*self.vision.stacks(), self.language, self.expert)}

    def coupled(self) -> tuple[tuple[str, ...], ...]:
        return (("language", "expert"),)

    def embed(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Images (B * C, 3, S, S) and words (B, T) as one sequence (B, C * patches + T, language width), float32."""
        features = self.vision(images)
        seen = self.projector(features.to(linear_dtype(self.projector))).float()
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

    def encode(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        reading = self.read(observed["images"], observed["tokens"], observed["token_mask"])
        return self.add_state(reading, observed["state"])

    def add_state(self, reading: Reading, state: Tensor) -> dict[str, Tensor]:
        """The prefix: keys and values of what was read, and after them the state's (B, state width)."""
        s = self.state_proj(state.to(linear_dtype(self.state_proj))).float()[:, None, :]
        rope = rotation(reading.end, self.config.expert.head_dim)
        prefix_mask = torch.cat((reading.seen, reading.seen.new_ones(state.shape[0], 1)), dim=1)
        visible = additive(prefix_mask)

        prefix = {"prefix_mask": prefix_mask}
        for n, (layer, past) in enumerate(zip(self.expert, reading.layers, strict=True)):
            s, own = layer(s, rope, visible, past)
            prefix[f"key_{n:02d}"] = torch.cat((past[0], own[0]), dim=2)
            prefix[f"value_{n:02d}"] = torch.cat((past[1], own[1]), dim=2)
        return prefix

    def velocity(self, chunk: Tensor, time: Tensor, prefix: Mapping[str, Tensor]) -> Tensor:
        horizon = chunk.shape[1]
        x = self.embed_actions(chunk, time)
        prefix_mask = prefix["prefix_mask"]
        positions = prefix_mask.int().sum(1, keepdim=True) + torch.arange(horizon, device=chunk.device)
        rope = rotation(positions, self.config.expert.head_dim)
        visible = additive(torch.cat((prefix_mask, prefix_mask.new_ones(chunk.shape[0], horizon)), dim=1))
        for n, layer in enumerate(self.expert):
            x, _ = layer(x, rope, visible, (prefix[f"key_{n:02d}"], prefix[f"value_{n:02d}"]))
        assert self.expert.norm is not None
        return self.action_out_proj(self.expert.norm(x).to(linear_dtype(self.action_out_proj))).float()

    def embed_actions(self, chunk: Tensor, time: Tensor) -> Tensor:
        """Noisy chunks (B, H, A) and their flow times (B,) or (1,) → (B, H, expert width), float32."""
        actions = self.action_in_proj(chunk.to(linear_dtype(self.action_in_proj))).float()
        when = sinusoid(time, self.expert.width, self.config.min_period, self.config.max_period)
        both = torch.cat((actions, when[:, None, :].expand_as(actions)), dim=2)
        hidden = self.action_time_mlp_in(both.to(linear_dtype(self.action_time_mlp_in)))
        return self.action_time_mlp_out(F.silu(hidden)).float()


def additive(seen: Tensor) -> Tensor:
    """A mask of visible keys (B, S) → the additive mask (B, 1, 1, S) that `Attention.attend` takes."""
    return torch.where(seen, 0.0, MASKED)[:, None, None, :]
