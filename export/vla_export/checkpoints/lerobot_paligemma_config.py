"""LeRobot's ``config.json`` of a π0 or π0.5, releases 0.4 to 0.6."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vla_export.checkpoints.config_fields import Unused, check_fields, read_fields
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.gemma_sizes import GemmaSizes
from vla_export.checkpoints.key_map import KeyMap
from vla_export.checkpoints.lerobot_fields import ONLY, WITHOUT_EFFECT, LeRobotFields
from vla_export.checkpoints.lerobot_release import is_0_4
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.checkpoints.pi05_keys import PI05_KEYS
from vla_export.checkpoints.policy_config import BLACK, ImageInput, PolicyConfig, TokenIds, Widths
from vla_export.checkpoints.relative_actions import relative_dimensions
from vla_export.models.flow_model import FlowModel
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_export.models.pi05 import Pi05, Pi05Config
from vla_runtime.errors import BadInput

TOKENIZER = "google/paligemma-3b-pt-224"
BARS_OF_0_4 = -3.0  # it padded pixels in [0, 1] with -1, and only then made them 2 x - 1
STATED_BY_0_4 = 32  # what its processor assumes when it is loaded: it does not save max_state_dim

UNUSED = Unused(
    written_by="π0 or π0.5 in LeRobot 0.4 to 0.6",
    without_effect=WITHOUT_EFFECT
    | {
        "n_action_steps",
        "dtype",
        "time_sampling_beta_alpha",
        "time_sampling_beta_beta",
        "time_sampling_scale",
        "time_sampling_offset",
        "gradient_checkpointing",
        "compile_model",
        "compile_mode",
    },
    only=ONLY,
)


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True)

    num_inference_steps: int = Field(gt=0)
    image_resolution: tuple[int, int]
    min_period: float = Field(gt=0)
    max_period: float = Field(gt=0)
    use_relative_actions: bool = False
    relative_exclude_joints: tuple[str, ...] = ()
    action_feature_names: tuple[str, ...] | None = None

    def relative(self, numbers: int) -> tuple[bool, ...]:
        """Which of an action's numbers are relative to the state; empty for none."""
        if not self.use_relative_actions:
            return ()
        return relative_dimensions(numbers, self.relative_exclude_joints, self.action_feature_names)


def read_pi0(contents: Contents) -> PolicyConfig:
    """Of a π0; raises `BadInput` naming the field that cannot be honoured."""
    read = _read(contents)
    sizes = Pi0Config(**read.sizes(), state_width=read.common.max_state_dim)
    return read.policy("pi0", PI0_KEYS, lambda _: Pi0(sizes), read.common.state())


def read_pi05(contents: Contents) -> PolicyConfig:
    """Of a π0.5; raises `BadInput` naming the field that cannot be honoured."""
    read = _read(contents)
    sizes = Pi05Config(**read.sizes())
    state = _stated(contents, read.common.state())
    return read.policy("pi05", PI05_KEYS, lambda _: Pi05(sizes), state)


def _stated(contents: Contents, state: Widths) -> Widths:
    """How many numbers the text states: those of the state; 0.4 wrote the zeros of its padding into it, too."""
    if not is_0_4(contents, PI05_KEYS):
        return Widths(state.numbers, state.numbers)
    if state.padded_to != STATED_BY_0_4:
        raise BadInput(
            f"{contents.config_path}: max_state_dim is {state.padded_to}; an export knows only {STATED_BY_0_4}: with "
            "any other, LeRobot 0.4 wrote one number of zeros into the text in training, and another afterwards"
        )
    return state


@dataclass(frozen=True)
class _Config:
    contents: Contents
    common: LeRobotFields
    fields: _Fields
    gemma: GemmaSizes

    def sizes(self) -> dict[str, Any]:
        return {
            **self.gemma.sizes(),
            "image_size": self.fields.image_resolution[0],
            "horizon": self.common.chunk_size,
            "action_width": self.common.max_action_dim,
            "min_period": self.fields.min_period,
            "max_period": self.fields.max_period,
        }

    def policy(self, family: str, keys: KeyMap, build: Callable[[TokenIds], FlowModel], state: Widths) -> PolicyConfig:
        common, fields = self.common, self.fields
        bars = BARS_OF_0_4 if is_0_4(self.contents, keys) else BLACK
        return PolicyConfig(
            family=family,
            keys=keys,
            build=build,
            cameras=common.cameras(),
            images=ImageInput(fields.image_resolution[0], "both", bars),
            state=state,
            action=common.action(),
            modes=common.modes(),
            horizon=common.chunk_size,
            flow_steps=fields.num_inference_steps,
            max_tokens=common.tokenizer_max_length,
            vocabulary=self.gemma.vocab_size,
            tokenizer=TOKENIZER,
            relative=fields.relative(common.action().numbers),
        )


def _read(contents: Contents) -> _Config:
    check_fields(contents, UNUSED, LeRobotFields, _Fields, GemmaSizes)
    common, fields = read_fields(contents, LeRobotFields), read_fields(contents, _Fields)
    gemma = read_fields(contents, GemmaSizes)
    for fault in (*common.faults(), *gemma.faults(fields.image_resolution, "image_resolution")):
        raise BadInput(f"{contents.config_path}: {fault}")
    return _Config(contents, common, fields, gemma)
