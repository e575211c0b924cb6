"""SmolVLA (arXiv 2506.01844): SmolVLM2 reads the observation, a thinner Llama reads it and the actions.

Images and words see each other; the state, a token of the language model, sees them and itself. The expert's layers
alternate: joint ones read the prefix and the actions up to their own, cross ones the prefix alone, through projections
of its keys and values. Those do not depend on the actions, so the projected ones are what the prefix holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vla_export.models.attention import additive, rotation
from vla_export.models.blocks import LayerKind, Stack, StackSize, llama_stack
from vla_export.models.flow_model import FlowModel
from vla_export.models.flow_time import mixed_with_time, sinusoid
from vla_export.models.linears import through
from vla_export.models.siglip import SIGLIP_BASE, SiglipTower

SMOLLM2_HALF = StackSize(depth=16, width=960, mlp=2560, heads=15, kv_heads=5, head_dim=64)
SMOL_EXPERT = StackSize(depth=16, width=720, mlp=2048, heads=15, kv_heads=5, head_dim=64)


@dataclass(frozen=True)
class SmolVLAConfig:
    """Every size of a SmolVLA; the defaults are the published model's.

    Images are square, ``image_size`` pixels a side, in patches of ``patch_size``; squares of ``pixel_shuffle`` by
    ``pixel_shuffle`` patches become one token. ``image_start`` and ``image_end``: words put around each camera's
    tokens, and ``empty_cameras`` more times for cameras that are never there, of which nothing else is seen. With
    ``attention_mode`` cross_attn, the expert's layers whose index is no multiple of
    ``self_attn_every_n_layers`` (all, where that is 0 or less) are cross layers; otherwise there are none.
    """

    vision: StackSize = SIGLIP_BASE
    language: StackSize = SMOLLM2_HALF
    expert: StackSize = SMOL_EXPERT
    vocabulary: int = 49_280
    image_size: int = 512
    patch_size: int = 16
    pixel_shuffle: int = 4
    image_start: tuple[int, ...] = ()
    image_end: tuple[int, ...] = ()
    empty_cameras: int = 0
    attention_mode: Literal["cross_attn", "self_attn"] = "cross_attn"
    self_attn_every_n_layers: int = 2
    horizon: int = 50
    state_width: int = 32
    action_width: int = 32
    min_period: float = 4e-3
    max_period: float = 4.0

    def expert_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each of the expert's layers."""
        every = self.self_attn_every_n_layers
        return tuple(
            "joint" if self.attention_mode == "self_attn" or (every > 0 and n % every == 0) else "cross"
            for n in range(self.expert.depth)
        )


class SmolVLA(FlowModel):
    """The whole policy; see the module's docstring for who sees whom."""

    config: SmolVLAConfig

    def __init__(self, config: SmolVLAConfig) -> None:
        super().__init__()
        self.config = config
        language, expert = config.language, config.expert
        language_kinds: list[LayerKind] = ["self"] * language.depth
        self.vision = SiglipTower(config.vision, config.image_size, config.patch_size)
        self.projector = nn.Linear(config.vision.width * config.pixel_shuffle**2, language.width, bias=False)
        self.embedding = nn.Embedding(config.vocabulary, language.width)
        self.language = llama_stack("language", language, language_kinds, final_norm=False)
        self.expert = llama_stack(
            "expert",
            expert,
            config.expert_kinds(),
            final_norm=True,
            memory_width=language.kv_heads * language.head_dim,
        )
        self.state_proj = nn.Linear(config.state_width, language.width)
        self.action_in_proj = nn.Linear(config.action_width, expert.width)
        self.action_out_proj = nn.Linear(expert.width, config.action_width)
        self.action_time_mlp_in = nn.Linear(2 * expert.width, expert.width)
        self.action_time_mlp_out = nn.Linear(expert.width, expert.width)

    def stacks(self) -> dict[str, Stack]:
        return {s.name: s for s in (*self.vision.stacks(), self.language, self.expert)}

    def coupled(self) -> tuple[tuple[str, ...], ...]:
        return (("language", "expert"),)

    def encode(self, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        token_mask = observed["token_mask"]
        x = self.embed(observed["images"], observed["tokens"], observed["state"])
        before = token_mask.new_ones(x.shape[0], x.shape[1] - token_mask.shape[1] - 1)
        seen = torch.cat((before, token_mask, token_mask.new_ones(x.shape[0], 1)), dim=1)
        rope = rotation(seen.int().cumsum(1) - 1, self.config.language.head_dim)
        visible = additive(seen[:, None, :] & _last_seen_by_itself(seen.shape[1], seen.device))

        prefix = {"prefix_mask": seen}
        for n, (reader, layer) in enumerate(zip(self.language, self.expert, strict=True)):
            x, past = reader(x, rope, visible)
            if layer.kind == "cross":
                past = layer.attention.remember(*past)
            prefix |= {f"key_{n:02d}": past[0], f"value_{n:02d}": past[1]}
        return prefix

    def embed(self, images: Tensor, tokens: Tensor, state: Tensor) -> Tensor:
        """Images (B * C, 3, S, S), a sample's cameras in a row, words (B, T), state (B, state width) → one sequence.

        Its shape is (B, P, language width), float32: what is seen, camera by camera, then the words, then the state.
        """
        b, width, config = tokens.shape[0], self.language.width, self.config
        start, end = self._marker(config.image_start), self._marker(config.image_end)
        seen = through(self.projector, shuffled(self.vision(images), config.pixel_shuffle)) * width**0.5
        cameras = torch.cat((*_each(start, len(images)), seen, *_each(end, len(images))), dim=1).reshape(b, -1, width)
        absent = _each(start + end, b) * config.empty_cameras
        words = self.embedding(tokens).float() * width**0.5
        return torch.cat((cameras, *absent, words, through(self.state_proj, state)[:, None, :]), dim=1)

    def _marker(self, words: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Words put around an image, (words, width), which are not scaled as those of the task; nothing for none."""
        if not words:
            return ()
        return (self.embedding(torch.tensor(words, device=self.embedding.weight.device)).float(),)

    def velocity(self, chunk: Tensor, time: Tensor, prefix: Mapping[str, Tensor]) -> Tensor:
        horizon, seen = chunk.shape[1], prefix["prefix_mask"]
        order = torch.arange(horizon, device=chunk.device)
        head_dim = self.config.expert.head_dim
        # Joint layers count an action's position from the start of the prefix, cross layers from the first action.
        after, apart = rotation(seen.int().sum(1, keepdim=True) + order, head_dim), rotation(order[None], head_dim)
        causal = (order[:, None] >= order).expand(seen.shape[0], -1, -1)
        both = torch.cat((seen[:, None, :].expand(-1, horizon, -1), causal), dim=2)
        views = {"joint": (after, additive(both)), "cross": (apart, additive(seen))}

        x = self.embed_actions(chunk, time)
        for n, layer in enumerate(self.expert):
            x, _ = layer(x, *views[layer.kind], (prefix[f"key_{n:02d}"], prefix[f"value_{n:02d}"]))
        assert self.expert.norm is not None
        return through(self.action_out_proj, self.expert.norm(x))

    def embed_actions(self, chunk: Tensor, time: Tensor) -> Tensor:
        """Noisy chunks (B, H, A) and their flow times (B,) or (1,) → (B, H, expert width), float32."""
        when = sinusoid(time, self.expert.width, self.config.min_period, self.config.max_period)
        actions = through(self.action_in_proj, chunk)
        return mixed_with_time(actions, when, self.action_time_mlp_in, self.action_time_mlp_out)


def shuffled(patches: Tensor, side: int) -> Tensor:
    """Pixel shuffle (arXiv 1609.05158, space to depth): a square of side by side patches becomes one token.

    patches: (C, N, width), the rows of a square. Returns (C, N / side², side² * width), a square's rows in order.
    """
    c, n, width = patches.shape
    across = round(n**0.5) // side
    squares = patches.view(c, across, side, across, side, width).transpose(2, 3)
    return squares.reshape(c, across * across, side * side * width)


def _each(markers: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
    return tuple(marker.expand(count, -1, -1) for marker in markers)


def _last_seen_by_itself(length: int, device: torch.device) -> Tensor:
    """Who may see whom where only the last sees the last, as (1, length, length), bool."""
    order = torch.arange(length, device=device)
    return ((order < length - 1) | (order[:, None] == length - 1))[None]
