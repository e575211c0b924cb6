"""openpi's ``config.json``: what its conversion from JAX to PyTorch writes, and the defaults of what it does not.

It says neither the family, which the names of the tensors tell, nor how many numbers states and actions have, which
the statistics tell, nor whether actions are relative to the state, which the deployment must say. Of openpi's other
settings the defaults hold: ten flow steps, 48 tokens (π0.5: 200), z-scores (π0.5: quantiles), the state in π0.5's text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vla_export.checkpoints.config_fields import Unused, check_fields, read_fields
from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.gemma_sizes import GemmaSizes
from vla_export.checkpoints.key_map import KeyMap
from vla_export.checkpoints.openpi_statistics import find_norm_stats
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.checkpoints.pi05_keys import PI05_KEYS
from vla_export.checkpoints.policy_config import ImageInput, Kind, Mode, PolicyConfig, TokenIds, Widths
from vla_export.models.flow_model import FlowModel
from vla_export.models.paligemma import PaliGemmaConfig
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_export.models.pi05 import Pi05, Pi05Config
from vla_runtime.errors import BadInput

CAMERAS = ("base_0_rgb", "left_wrist_0_rgb", "right_wrist_0_rgb")
TOKENIZER = "paligemma_tokenizer.model"
FLOW_STEPS = 10
TOLD_BY = {"pi0": "action_time_mlp_in.weight", "pi05": "time_mlp_in.weight"}
Z_SCORES: Mapping[Kind, Mode] = {"STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
QUANTILES: Mapping[Kind, Mode] = {"STATE": "QUANTILES", "ACTION": "QUANTILES"}

UNUSED = Unused(written_by="openpi's conversion to PyTorch", without_effect=frozenset({"precision"}), only={})


class _Fields(BaseModel):
    model_config = ConfigDict(frozen=True)

    action_dim: int = Field(gt=0)
    action_horizon: int = Field(gt=0)
    image_size: int = Field(gt=0, default=PaliGemmaConfig.image_size)  # written for other sizes than the published


def openpi_family(contents: Contents) -> str:
    """Which family the tensors are of; raises `BadInput` for neither."""
    names = {name.removeprefix("model.") for name in contents.tensors}
    families = [family for family, name in TOLD_BY.items() if name in names]
    if len(families) != 1:
        raise BadInput(
            f"{contents.tensors.path} is neither π0 nor π0.5 of openpi: expected {' or '.join(TOLD_BY.values())}"
        )
    return families[0]


def read_pi0(contents: Contents) -> PolicyConfig:
    """Of a π0; raises `BadInput` naming the field that cannot be honoured."""
    read = _read(contents)
    sizes = Pi0Config(**read.sizes(), state_width=read.fields.action_dim)
    state = Widths(read.state, read.fields.action_dim)
    return read.policy("pi0", PI0_KEYS, lambda _: Pi0(sizes), state, Z_SCORES, max_tokens=48)


def read_pi05(contents: Contents) -> PolicyConfig:
    """Of a π0.5; raises `BadInput` naming the field that cannot be honoured."""
    read = _read(contents)
    sizes = Pi05Config(**read.sizes())
    state = Widths(read.state, read.state)
    return read.policy("pi05", PI05_KEYS, lambda _: Pi05(sizes), state, QUANTILES, max_tokens=200)


@dataclass(frozen=True)
class _Config:
    """The fields, and how many numbers a state and an action have."""

    fields: _Fields
    gemma: GemmaSizes
    state: int
    action: int

    def sizes(self) -> dict[str, Any]:
        return {
            **self.gemma.sizes(),
            "image_size": self.fields.image_size,
            "horizon": self.fields.action_horizon,
            "action_width": self.fields.action_dim,
        }

    def policy(
        self,
        family: str,
        keys: KeyMap,
        build: Callable[[TokenIds], FlowModel],
        state: Widths,
        modes: Mapping[Kind, Mode],
        max_tokens: int,
    ) -> PolicyConfig:
        return PolicyConfig(
            family=family,
            keys=keys,
            build=build,
            cameras=CAMERAS,
            images=ImageInput(self.fields.image_size, "both", resize="smooth"),
            state=state,
            action=Widths(self.action, self.fields.action_dim),
            modes=modes,
            horizon=self.fields.action_horizon,
            flow_steps=FLOW_STEPS,
            max_tokens=max_tokens,
            vocabulary=self.gemma.vocab_size,
            tokenizer=TOKENIZER,
            relative=None,
        )


def _read(contents: Contents) -> _Config:
    check_fields(contents, UNUSED, _Fields, GemmaSizes)
    fields, gemma = read_fields(contents, _Fields), read_fields(contents, GemmaSizes)
    for fault in gemma.faults((fields.image_size, fields.image_size), "image_size"):
        raise BadInput(f"{contents.config_path}: {fault}")
    path, statistics = find_norm_stats(contents)
    numbers = {"state": len(statistics.state.mean), "actions": len(statistics.actions.mean)}
    for name, found in numbers.items():
        if not 0 < found <= fields.action_dim:
            raise BadInput(f"{path}: {name} has {found} numbers, the policy's tensor holds {fields.action_dim}")
    return _Config(fields, gemma, numbers["state"], numbers["actions"])
