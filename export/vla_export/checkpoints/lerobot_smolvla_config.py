"""LeRobot's ``config.json`` of a SmolVLA, every release, and LoRA-SP's: they compute the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vla_export.checkpoints.config_fields import Unused, check_fields, read_fields
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.lerobot_fields import ONLY, WITHOUT_EFFECT, LeRobotFields
from vla_export.checkpoints.policy_config import ImageInput, PolicyConfig, TokenIds
from vla_export.checkpoints.smolvla_keys import SMOLVLA_KEYS
from vla_export.checkpoints.smolvlm_config import VlmSizes, read_vlm_sizes
from vla_export.models.blocks import StackSize
from vla_export.models.smolvla import SmolVLA, SmolVLAConfig
from vla_runtime.errors import BadInput

# prefix_length and pad_language_to only add positions that nothing sees.
UNUSED = Unused(
    written_by="SmolVLA in LeRobot or LoRA-SP",
    without_effect=WITHOUT_EFFECT
    | {
        "n_action_steps",
        "is_training",
        "use_cache",
        "attention_implementation",
        "train_state_proj",
        "load_vlm_weights",
        "prefix_length",
        "pad_language_to",
        "compile_model",
        "compile_mode",
    },
    only=ONLY,
)
AROUND_IMAGE, BEFORE_IMAGE = "<fake_token_around_image>", "<global-img>"


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True)

    num_steps: int = Field(gt=0)
    resize_imgs_with_padding: tuple[int, int]  # (width, height)
    vlm_model_name: str
    num_vlm_layers: int
    num_expert_layers: int
    expert_width_multiplier: float = Field(gt=0)
    attention_mode: Literal["cross_attn", "self_attn"]
    self_attn_every_n_layers: int
    add_image_special_tokens: bool
    min_period: float = Field(gt=0)
    max_period: float = Field(gt=0)


def read_smolvla(contents: Contents) -> PolicyConfig:
    """Of a SmolVLA; raises `BadInput` naming the field that cannot be honoured."""
    check_fields(contents, UNUSED, LeRobotFields, _Fields)
    common, fields = read_fields(contents, LeRobotFields), read_fields(contents, _Fields)
    vlm = read_vlm_sizes(contents, fields.vlm_model_name)
    for fault in (*common.faults(), *_faults(fields, vlm)):
        raise BadInput(f"{contents.config_path}: {fault}")
    language = vlm.first_layers(fields.num_vlm_layers)
    sizes = SmolVLAConfig(
        vision=vlm.vision,
        language=language,
        expert=_expert(language, fields.expert_width_multiplier),
        vocabulary=vlm.vocabulary,
        image_size=vlm.image_size,
        patch_size=vlm.patch_size,
        pixel_shuffle=vlm.pixel_shuffle,
        attention_mode=fields.attention_mode,
        self_attn_every_n_layers=fields.self_attn_every_n_layers,
        horizon=common.chunk_size,
        state_width=common.max_state_dim,
        action_width=common.max_action_dim,
        min_period=fields.min_period,
        max_period=fields.max_period,
    )

    def build(token: TokenIds) -> SmolVLA:
        if not fields.add_image_special_tokens:
            return SmolVLA(sizes)
        around, before = token(AROUND_IMAGE), token(BEFORE_IMAGE)
        # Of a camera that is always empty, LeRobot shows these words all the same.
        empty = common.empty_cameras
        return SmolVLA(replace(sizes, image_start=(around, before), image_end=(around,), empty_cameras=empty))

    return PolicyConfig(
        family="smolvla",
        keys=SMOLVLA_KEYS,
        build=build,
        cameras=common.cameras(),
        images=ImageInput(vlm.image_size, "left_top"),
        state=common.state(),
        action=common.action(),
        modes=common.modes(),
        horizon=common.chunk_size,
        flow_steps=fields.num_steps,
        max_tokens=common.tokenizer_max_length,
        vocabulary=vlm.vocabulary,
        tokenizer=fields.vlm_model_name,
    )


def _expert(language: StackSize, share: float) -> StackSize:
    """A stack as deep as the language model and ``share`` of its width (lerobot's get_intermediate_size)."""
    width = int(language.width * share)
    mlp = 4 * int(2 * width / 3)
    return replace(language, width=width, mlp=-(-mlp // 256) * 256)


def _faults(fields: _Fields, vlm: VlmSizes) -> Iterator[str]:
    if fields.resize_imgs_with_padding != (vlm.image_size, vlm.image_size):
        yield (
            f"resize_imgs_with_padding is {fields.resize_imgs_with_padding}; an export knows only the size of the "
            f"image tower, {vlm.image_size} by {vlm.image_size}"
        )
    if fields.num_vlm_layers > vlm.language.depth:
        yield f"num_vlm_layers is {fields.num_vlm_layers}, {fields.vlm_model_name} has {vlm.language.depth}"
    depth = vlm.first_layers(fields.num_vlm_layers).depth
    if fields.num_expert_layers > 0 and fields.num_expert_layers != depth:
        yield (
            f"num_expert_layers is {fields.num_expert_layers}; an export knows only as many as the language model has, "
            f"{depth}: LeRobot runs no other"
        )
