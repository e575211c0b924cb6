"""What a config file says of a policy, in the same words whatever project and release wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from vla_export.checkpoints.key_map import KeyMap
from vla_export.models.flow_model import FlowModel

BLACK = -1.0
TokenIds = Callable[[str], int]
Mode = Literal["MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10", "IDENTITY"]
Kind = Literal["STATE", "ACTION"]


@dataclass(frozen=True)
class ImageInput:
    """How an image of any size becomes the square of ``side`` pixels that the policy sees; see `Camera`."""

    side: int
    padding: Literal["both", "left_top"]
    bars: float = BLACK
    resize: Literal["bilinear", "smooth"] = "bilinear"


@dataclass(frozen=True)
class Prompt:
    """How a task becomes text; see `vla_runtime.bundle.manifest.Tokenizer`."""

    template: str
    plain_task: bool = False
    state_bins: int | None = None


@dataclass(frozen=True)
class Widths:
    """How many numbers a space has, and how many the policy's tensor (or text) holds, the rest being zeros."""

    numbers: int
    padded_to: int


@dataclass(frozen=True)
class PolicyConfig:
    """A policy before its weights.

    build: the model, on whatever device is current, given the ids of the tokenizer's special tokens.
    cameras: the names of the image features in the order the policy reads them, without cameras that are always empty.
    modes: how state and action are normalised. max_tokens: the length of the padded text. vocabulary: how many tokens
    the policy embeds. tokenizer: the name of the one it was trained with. relative: of an action, the dimensions that
    are relative to the state; empty for none, None where the project does not say.
    """

    family: str
    keys: KeyMap
    build: Callable[[TokenIds], FlowModel]
    cameras: tuple[str, ...]
    images: ImageInput
    state: Widths
    action: Widths
    modes: Mapping[Kind, Mode]
    horizon: int
    flow_steps: int
    max_tokens: int
    vocabulary: int
    tokenizer: str
    relative: tuple[bool, ...] | None = ()
