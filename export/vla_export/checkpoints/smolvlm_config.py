"""``vlm_config.json``: the sizes of SmolVLA's vision-language model, where it is not the published one.

LeRobot's config only names that model; the file is the ``config.json`` of the repository it names, as transformers
wrote it. The fields below are read; what others change of the model's shape, loading finds tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.documents import read_json, validate
from vla_export.models.blocks import StackSize
from vla_export.models.siglip import SIGLIP_BASE
from vla_export.models.smolvla import SMOLLM2_HALF, SmolVLAConfig
from vla_runtime.errors import BadInput

FILE = "vlm_config.json"
PUBLISHED = "SmolVLM2-500M-Video-Instruct"  # of HuggingFaceTB; LeRobot may also name a local copy's directory
RMS_EPS = 1e-5


@dataclass(frozen=True)
class VlmSizes:
    """Of the whole vision-language model, of whose language layers a SmolVLA keeps the first few."""

    vision: StackSize
    language: StackSize
    vocabulary: int
    image_size: int
    patch_size: int
    pixel_shuffle: int

    def first_layers(self, count: int) -> StackSize:
        """The language stack cut to its first ``count`` layers; to all of them for 0 or less."""
        return replace(self.language, depth=count) if count > 0 else self.language


PUBLISHED_SIZES = VlmSizes(
    vision=SIGLIP_BASE,
    language=replace(SMOLLM2_HALF, depth=32),
    vocabulary=SmolVLAConfig.vocabulary,
    image_size=SmolVLAConfig.image_size,
    patch_size=SmolVLAConfig.patch_size,
    pixel_shuffle=SmolVLAConfig.pixel_shuffle,
)


# Only these values can be exported. The expert's and the language model's rotary embedding is LeRobot's own.
ONLY: dict[str, dict[str, object]] = {
    "vision_config": {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "num_channels": 3},
    "text_config": {"hidden_act": "silu", "attention_bias": False, "mlp_bias": False},
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)

    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)


class _Vision(_Part):
    image_size: int = Field(gt=0)
    patch_size: int = Field(gt=0)


class _Text(_Part):
    num_key_value_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    rms_norm_eps: float


class _Vlm(BaseModel):
    model_config = ConfigDict(frozen=True)

    model_type: Literal["smolvlm"]
    scale_factor: int = Field(gt=0)
    vision_config: _Vision
    text_config: _Text


def read_vlm_sizes(contents: Contents, name: str) -> VlmSizes:
    """Of the vision-language model that a policy calls ``name``; raises `BadInput` where they are not known."""
    path = contents.directory / FILE
    if not path.is_file():
        if Path(name).name == PUBLISHED:
            return PUBLISHED_SIZES
        raise BadInput(
            f"{contents.config_path}: vlm_model_name is {name!r}, whose sizes only {PUBLISHED}'s are known here: put "
            f"its config.json beside it as {FILE}"
        )
    content = read_json(path)
    vlm = validate(_Vlm, content, path)
    vision, text = vlm.vision_config, vlm.text_config
    for fault in (*_faults(content), *_size_faults(vlm)):
        raise BadInput(f"{path}: {fault}")
    return VlmSizes(
        vision=_stack(vision, vision.num_attention_heads, vision.hidden_size // vision.num_attention_heads),
        language=_stack(text, text.num_key_value_heads, text.head_dim),
        vocabulary=text.vocab_size,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        pixel_shuffle=vlm.scale_factor,
    )


def _stack(part: _Part, kv_heads: int, head_dim: int) -> StackSize:
    return StackSize(
        depth=part.num_hidden_layers,
        width=part.hidden_size,
        mlp=part.intermediate_size,
        heads=part.num_attention_heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
    )


def _faults(content: Mapping[str, Any]) -> Iterator[str]:
    for part, only in ONLY.items():
        for name, value in only.items():
            if content[part].get(name, value) != value:
                yield f"{part}.{name} is {content[part][name]!r}; an export knows only {value!r}"


def _size_faults(vlm: _Vlm) -> Iterator[str]:
    vision, text = vlm.vision_config, vlm.text_config
    if text.rms_norm_eps != RMS_EPS:
        yield f"text_config.rms_norm_eps is {text.rms_norm_eps}; an export knows only {RMS_EPS}"
    if vision.hidden_size % vision.num_attention_heads:
        yield f"vision_config: {vision.num_attention_heads} heads cannot share a width of {vision.hidden_size}"
    if text.num_attention_heads % text.num_key_value_heads:
        yield f"text_config: {text.num_attention_heads} heads cannot share {text.num_key_value_heads} key heads"
    if vision.image_size % (vision.patch_size * vlm.scale_factor):
        yield (
            f"vision_config.image_size {vision.image_size} is not in squares of {vlm.scale_factor} patches of "
            f"{vision.patch_size}"
        )
