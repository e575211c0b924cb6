"""Sizes of a PaliGemma policy: the published ones by name, or others that a deployment states in ``config.json``.

LeRobot and openpi hard-code the published sizes. A policy of other sizes is read where its config.json has, besides
what the project wrote, ``vision_config``, ``language_config`` and ``expert_config`` (each with depth, width, mlp,
heads, kv_heads, head_dim), ``vocab_size`` and ``patch_size``; ``stem_config`` (channels, width) stands in place of
``vision_config`` and ``patch_size`` where a convolutional stem sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vla_export.models.blocks import StackSize
from vla_export.models.paligemma import GEMMA_2B, GEMMA_300M, PaliGemmaConfig
from vla_export.models.siglip import SIGLIP_SO400M
from vla_export.models.stem import GROUPS, StemSize

Variant = Literal["gemma_2b", "gemma_300m"]
VARIANTS: dict[Variant, StackSize] = {"gemma_2b": GEMMA_2B, "gemma_300m": GEMMA_300M}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StackFields(_Part):
    """Of one stack; see `StackSize`."""

    depth: int = Field(gt=0)
    width: int = Field(gt=0)
    mlp: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)

    def stack(self) -> StackSize:
        """As the models take it."""
        return StackSize(**self.model_dump())


class _Stem(_Part):
    channels: tuple[int, ...] = Field(min_length=1)
    width: int = Field(gt=0)

    @field_validator("channels")
    @classmethod
    def _in_groups(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        if any(n <= 0 or n % GROUPS for n in channels):
            raise ValueError(f"each must be a multiple of {GROUPS}, the groups of its norm")
        return channels

    def stem(self) -> StemSize:
        return StemSize(**self.model_dump())


class GemmaSizes(BaseModel):
    """The fields; see the module's docstring. A field that is absent has the published model's value."""

    model_config = ConfigDict(frozen=True)

    paligemma_variant: Variant = "gemma_2b"
    action_expert_variant: Variant = "gemma_300m"
    vision_config: StackFields | None = None
    language_config: StackFields | None = None
    expert_config: StackFields | None = None
    vocab_size: int = Field(gt=0, default=PaliGemmaConfig.vocabulary)
    patch_size: int = Field(gt=0, default=PaliGemmaConfig.patch_size)
    stem_config: _Stem | None = None

    def sizes(self) -> dict[str, Any]:
        """Those of `PaliGemmaConfig` that these fields decide."""
        language = self.language_config.stack() if self.language_config else VARIANTS[self.paligemma_variant]
        expert = self.expert_config.stack() if self.expert_config else VARIANTS[self.action_expert_variant]
        return {
            "vision": self._vision(),
            "language": language,
            "expert": expert,
            "vocabulary": self.vocab_size,
            "patch_size": self.patch_size,
        }

    def faults(self, image: tuple[int, int], field: str) -> Iterator[str]:
        """What does not fit together, for images of so many pixels a side as ``field`` says."""
        sizes = self.sizes()
        vision, language, expert = sizes["vision"], sizes["language"], sizes["expert"]
        if self.stem_config and self.model_fields_set & {"vision_config", "patch_size"}:
            yield "stem_config excludes vision_config and patch_size: one tower sees"
        patch = vision.stride if isinstance(vision, StemSize) else self.patch_size
        if image[0] != image[1] or image[0] <= 0 or image[0] % patch:
            yield f"{field} {image} must be square, in patches of {patch}"
        if (language.depth, language.kv_heads, language.head_dim) != (expert.depth, expert.kv_heads, expert.head_dim):
            yield "language and expert must agree in depth, kv_heads and head_dim: one reads the other's keys"
        for what, size in (("vision", vision), ("language", language), ("expert", expert)):
            if isinstance(size, StackSize) and size.heads % size.kv_heads:
                yield f"{what}: {size.heads} heads cannot share {size.kv_heads} key heads"

    def _vision(self) -> StackSize | StemSize:
        if self.stem_config:
            return self.stem_config.stem()
        return self.vision_config.stack() if self.vision_config else SIGLIP_SO400M
