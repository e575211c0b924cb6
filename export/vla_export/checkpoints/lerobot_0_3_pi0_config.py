"""LeRobot's ``config.json`` of a π0 up to release 0.3, and of projects that grew from it in spring 2025 (LoRA-SP)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from vla_export.checkpoints.config_fields import Unused, check_fields, read_fields
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.gemma_sizes import GemmaSizes
from vla_export.checkpoints.lerobot_fields import ONLY, WITHOUT_EFFECT, LeRobotFields
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.checkpoints.policy_config import ImageInput, PolicyConfig
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_runtime.errors import BadInput

TOKENIZER = "google/paligemma-3b-pt-224"

UNUSED = Unused(
    written_by="π0 in LeRobot up to 0.3 or LoRA-SP",
    without_effect=WITHOUT_EFFECT | {"is_training", "use_cache", "attention_implementation", "train_state_proj"},
    only=ONLY,
)


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True)

    num_steps: int = Field(gt=0)
    n_action_steps: int
    proj_width: int
    resize_imgs_with_padding: tuple[int, int]


def read_pi0(contents: Contents) -> PolicyConfig:
    """Of a π0; raises `BadInput` naming the field that cannot be honoured."""
    check_fields(contents, UNUSED, LeRobotFields, _Fields, GemmaSizes)
    common, fields = read_fields(contents, LeRobotFields), read_fields(contents, _Fields)
    gemma = read_fields(contents, GemmaSizes)
    sizes = Pi0Config(
        **gemma.sizes(),
        image_size=fields.resize_imgs_with_padding[0],
        horizon=common.chunk_size,
        state_width=common.max_state_dim,
        action_width=common.max_action_dim,
    )
    faults = [*common.faults(), *gemma.faults(fields.resize_imgs_with_padding, "resize_imgs_with_padding")]
    if fields.proj_width != sizes.expert.width:
        faults.append(f"proj_width is {fields.proj_width}, the expert is {sizes.expert.width} wide")
    if fields.n_action_steps != common.chunk_size:  # this release samples as many actions as it executes
        faults.append(
            f"n_action_steps is {fields.n_action_steps}; an export knows only chunk_size, {common.chunk_size}"
        )
    for fault in faults:
        raise BadInput(f"{contents.config_path}: {fault}")
    return PolicyConfig(
        family="pi0",
        keys=PI0_KEYS,
        build=lambda _: Pi0(sizes),
        cameras=common.cameras(),
        images=ImageInput(sizes.image_size, "left_top"),
        state=common.state(),
        action=common.action(),
        modes=common.modes(),
        horizon=common.chunk_size,
        flow_steps=fields.num_steps,
        max_tokens=common.tokenizer_max_length,
        vocabulary=sizes.vocabulary,
        tokenizer=TOKENIZER,
    )
