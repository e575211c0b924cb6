"""LeRobot 0.6's ``config.json`` of a π0: what an export needs of it, and what it must refuse.

Every field has one of four fates: it is used; it is known to concern training or LeRobot's own loop alone; it may only
have a value that changes nothing; or it is unknown and refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vla_export.checkpoints.documents import validate
from vla_export.models.blocks import StackSize
from vla_export.models.pi0 import GEMMA_2B, GEMMA_300M, SIGLIP_SO400M, Pi0Config
from vla_export.models.stem import GROUPS, StemSize
from vla_runtime.errors import BadInput

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."

VARIANTS = {"gemma_2b": GEMMA_2B, "gemma_300m": GEMMA_300M}

# Training, storage and LeRobot's own control loop; the chunk that the policy answers does not depend on them.
WITHOUT_EFFECT = frozenset(
    {
        "type",
        "n_action_steps",
        "device",
        "use_amp",
        "push_to_hub",
        "repo_id",
        "private",
        "tags",
        "license",
        "pretrained_path",
        "pretrained_revision",
        "dtype",
        "time_sampling_beta_alpha",
        "time_sampling_beta_beta",
        "time_sampling_scale",
        "time_sampling_offset",
        "relative_exclude_joints",
        "action_feature_names",
        "gradient_checkpointing",
        "compile_model",
        "compile_mode",
        "freeze_vision_encoder",
        "train_expert_only",
        "optimizer_lr",
        "optimizer_betas",
        "optimizer_eps",
        "optimizer_weight_decay",
        "optimizer_grad_clip_norm",
        "scheduler_warmup_steps",
        "scheduler_decay_steps",
        "scheduler_decay_lr",
    }
)

# They do change the chunk, and only this value of them can be exported; absent means that value.
ONLY: dict[str, object] = {
    "n_obs_steps": 1,
    "use_peft": False,
    "use_relative_actions": False,
    "adapt_to_pi_aloha": False,
    "use_delta_joint_actions_aloha": False,
    "rtc_config": None,
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Feature(_Part):
    """One tensor of an observation or action; image shapes are (3, height, width)."""

    type: Literal["VISUAL", "STATE", "ACTION"]
    shape: tuple[int, ...]


class _Size(_Part):
    depth: int = Field(gt=0)
    width: int = Field(gt=0)
    mlp: int = Field(gt=0)
    heads: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)

    def stack(self) -> StackSize:
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


class LeRobotPi0(_Part):
    """The fields that decide what a π0 computes. The last six are absent from checkpoints of the published sizes.

    ``stem_config`` stands in place of ``vision_config`` and ``patch_size`` where a convolutional stem sees.
    """

    input_features: dict[str, Feature]
    output_features: dict[str, Feature]
    chunk_size: int = Field(gt=0)
    num_inference_steps: int = Field(gt=0)
    max_state_dim: int = Field(gt=0)
    max_action_dim: int = Field(gt=0)
    tokenizer_max_length: int = Field(gt=0)
    image_resolution: tuple[int, int]
    empty_cameras: int = Field(ge=0)
    min_period: float = Field(gt=0)
    max_period: float = Field(gt=0)
    normalization_mapping: dict[str, str]
    paligemma_variant: Literal["gemma_2b", "gemma_300m"]
    action_expert_variant: Literal["gemma_2b", "gemma_300m"]
    vision_config: _Size | None = None
    language_config: _Size | None = None
    expert_config: _Size | None = None
    vocab_size: int = Field(gt=0, default=Pi0Config.vocabulary)
    patch_size: int = Field(gt=0, default=Pi0Config.patch_size)
    stem_config: _Stem | None = None

    def cameras(self) -> tuple[str, ...]:
        """The image features in the order the policy reads them.

        An empty camera is masked out of every attention and takes no position, so leaving it out changes nothing.
        """
        empty = {f"{IMAGES}empty_camera_{n}" for n in range(self.empty_cameras)}
        return tuple(k for k, f in self.input_features.items() if f.type == "VISUAL" and k not in empty)

    def sizes(self) -> Pi0Config:
        """Every size of the model; loading verifies each against the tensors."""
        return Pi0Config(
            vision=self._vision(),
            language=self.language_config.stack() if self.language_config else VARIANTS[self.paligemma_variant],
            expert=self.expert_config.stack() if self.expert_config else VARIANTS[self.action_expert_variant],
            vocabulary=self.vocab_size,
            image_size=self.image_resolution[0],
            patch_size=self.patch_size,
            horizon=self.chunk_size,
            state_width=self.max_state_dim,
            action_width=self.max_action_dim,
            min_period=self.min_period,
            max_period=self.max_period,
        )

    def _vision(self) -> StackSize | StemSize:
        if self.stem_config:
            return self.stem_config.stem()
        return self.vision_config.stack() if self.vision_config else SIGLIP_SO400M


def parse_config(content: dict[str, Any], path: Path) -> LeRobotPi0:
    """Check the contents of a ``config.json``; raises `BadInput` naming the field that cannot be honoured."""
    for name, value in ONLY.items():
        if content.get(name, value) != value and not _is_off(content[name]):
            raise BadInput(f"{path}: {name} is {content[name]!r}; an export knows only {value!r}")
    known = WITHOUT_EFFECT | ONLY.keys() | LeRobotPi0.model_fields.keys()
    unknown = sorted(content.keys() - known)
    if unknown:
        raise BadInput(f"{path}: unknown field {', '.join(unknown)}: expected the config.json of LeRobot 0.6's π0")
    used = {name: value for name, value in content.items() if name in LeRobotPi0.model_fields}
    config = validate(LeRobotPi0, used, path)
    for fault in _faults(config):
        raise BadInput(f"{path}: {fault}")
    return config


def _is_off(value: object) -> bool:
    """Whether an optional part of LeRobot's loop is configured but not enabled."""
    return isinstance(value, dict) and value.get("enabled") is False


def _faults(config: LeRobotPi0) -> list[str]:
    sizes = config.sizes()
    language, expert = sizes.language, sizes.expert
    faults = [
        f"{kind} of {name} is not supported: expected images, {STATE} and {ACTION}"
        for group, kind in ((config.input_features, "input feature"), (config.output_features, "output feature"))
        for name, feature in group.items()
        if feature.type != "VISUAL" and (name, feature.type) not in ((STATE, "STATE"), (ACTION, "ACTION"))
    ]
    if not config.cameras():
        faults.append("input_features names no camera")
    for name, group, widest in (
        (STATE, config.input_features, sizes.state_width),
        (ACTION, config.output_features, sizes.action_width),
    ):
        if name not in group or len(group[name].shape) != 1:
            faults.append(f"{name} must be a feature of shape [numbers]")
        elif not 0 < group[name].shape[0] <= widest:
            faults.append(f"{name} has {group[name].shape[0]} numbers, the policy's tensor holds {widest}")
    if config.stem_config and config.model_fields_set & {"vision_config", "patch_size"}:
        faults.append("stem_config excludes vision_config and patch_size: one tower sees")
    patch = sizes.vision.stride if isinstance(sizes.vision, StemSize) else sizes.patch_size
    if config.image_resolution[0] != config.image_resolution[1] or sizes.image_size % patch:
        faults.append(f"image_resolution {config.image_resolution} must be square, in patches of {patch}")
    if (language.depth, language.kv_heads, language.head_dim) != (expert.depth, expert.kv_heads, expert.head_dim):
        faults.append("language and expert must agree in depth, kv_heads and head_dim: one reads the other's keys")
    for what, size in (("vision", sizes.vision), ("language", language), ("expert", expert)):
        if isinstance(size, StackSize) and size.heads % size.kv_heads:
            faults.append(f"{what}: {size.heads} heads cannot share {size.kv_heads} key heads")
    if config.normalization_mapping.get("VISUAL", "IDENTITY") != "IDENTITY":
        faults.append("normalization_mapping: VISUAL must be IDENTITY")
    return faults
