"""Fields of ``config.json`` that LeRobot's policies have in every release, and its forks with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vla_export.checkpoints.policy_config import Kind, Mode, Widths

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
TENSORS: dict[Kind, str] = {"STATE": STATE, "ACTION": ACTION}

# Training, storage and LeRobot's own control loop; the chunk that a policy answers does not depend on them.
WITHOUT_EFFECT = frozenset(
    {
        "type",
        "device",
        "use_amp",
        "push_to_hub",
        "repo_id",
        "private",
        "tags",
        "license",
        "pretrained_path",
        "pretrained_revision",
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
# They do change the chunk, and only this value of them can be exported.
ONLY: dict[str, object] = {
    "n_obs_steps": 1,
    "use_peft": False,
    "adapt_to_pi_aloha": False,
    "use_delta_joint_actions_aloha": False,
    "rtc_config": None,
}


class Feature(BaseModel):
    """One tensor of an observation or action; image shapes are (3, height, width)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["VISUAL", "STATE", "ACTION"]
    shape: tuple[int, ...]


class LeRobotFields(BaseModel):
    """What every family's configuration says of its inputs and outputs."""

    model_config = ConfigDict(frozen=True)

    input_features: dict[str, Feature]
    output_features: dict[str, Feature]
    normalization_mapping: dict[Literal["VISUAL", "STATE", "ACTION"], Mode]
    chunk_size: int = Field(gt=0)
    max_state_dim: int = Field(gt=0)
    max_action_dim: int = Field(gt=0)
    tokenizer_max_length: int = Field(gt=0)
    empty_cameras: int = Field(ge=0)

    def cameras(self) -> tuple[str, ...]:
        """The image features in the order the policy reads them, without those that are always empty.

        An empty camera is masked out of every attention and takes no position, so leaving it out changes nothing.
        """
        empty = {f"{IMAGES}empty_camera_{n}" for n in range(self.empty_cameras)}
        return tuple(k for k, f in self.input_features.items() if f.type == "VISUAL" and k not in empty)

    def state(self) -> Widths:
        """Of the state; `faults` has found it there."""
        return Widths(self.input_features[STATE].shape[0], self.max_state_dim)

    def action(self) -> Widths:
        """Of the action; `faults` has found it there."""
        return Widths(self.output_features[ACTION].shape[0], self.max_action_dim)

    def modes(self) -> dict[Kind, Mode]:
        """How state and action are normalised."""
        kinds: tuple[Kind, ...] = ("STATE", "ACTION")
        return {kind: self.normalization_mapping.get(kind, "IDENTITY") for kind in kinds}

    def faults(self) -> Iterator[str]:
        """What of these fields cannot be honoured."""
        for group, kind in ((self.input_features, "input feature"), (self.output_features, "output feature")):
            for name, feature in group.items():
                if feature.type != "VISUAL" and (name, feature.type) not in ((STATE, "STATE"), (ACTION, "ACTION")):
                    yield f"{kind} of {name} is not supported: expected images, {STATE} and {ACTION}"
        if not self.cameras():
            yield "input_features names no camera"
        for name, group, widest in (
            (STATE, self.input_features, self.max_state_dim),
            (ACTION, self.output_features, self.max_action_dim),
        ):
            if name not in group or len(group[name].shape) != 1:
                yield f"{name} must be a feature of shape [numbers]"
            elif not 0 < group[name].shape[0] <= widest:
                yield f"{name} has {group[name].shape[0]} numbers, the policy's tensor holds {widest}"
        if self.normalization_mapping.get("VISUAL", "IDENTITY") != "IDENTITY":
            yield "normalization_mapping: VISUAL must be IDENTITY"
