"""LeRobot 0.6's processor files: what happens to an observation before the policy and to its actions after.

``policy_preprocessor.json`` and ``policy_postprocessor.json`` list steps; a step's statistics lie in the safetensors
file it names. A step that an export cannot honour is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file

from vla_export.checkpoints.documents import read_json, validate
from vla_export.checkpoints.lerobot_config import ACTION, STATE
from vla_runtime.bundle.manifest import Normalisation
from vla_runtime.errors import BadInput

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
EPSILON = 1e-8  # what the bundle's normalisation adds to every standard deviation

# For each step, the settings that may have one value only; other settings of these steps change nothing.
STEPS: dict[str, dict[str, tuple[object, ...]]] = {
    "rename_observations_processor": {},
    "to_batch_processor": {},
    "pi0_new_line_processor": {},
    "tokenizer_processor": {"task_key": ("task",), "padding_side": ("right",), "padding": ("max_length",)},
    "device_processor": {"float_dtype": (None, "float32")},
    "relative_actions_processor": {"enabled": (False,)},
    "absolute_actions_processor": {"enabled": (False,)},
    "normalizer_processor": {"eps": (EPSILON,), "normalize_observation_keys": (None,)},
    "unnormalizer_processor": {"eps": (EPSILON,), "normalize_observation_keys": (None,)},
}


class _Step(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    registry_name: str
    config: dict[str, Any]
    state_file: str | None = None


class _Pipeline(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    steps: tuple[_Step, ...]


class _Renaming(BaseModel):
    rename_map: dict[str, str] = {}


class _Tokenizing(BaseModel):
    max_length: int
    tokenizer_name: str = "a tokenizer it does not name"


class _Normalising(BaseModel):
    norm_map: dict[str, str]


@dataclass(frozen=True)
class Processing:
    """What the two pipelines do. ``sources``: the policy's name of a feature → the name the robot's data has."""

    sources: Mapping[str, str]
    template: str
    max_tokens: int
    tokenizer_name: str
    state: Normalisation
    action: Normalisation


def read_processing(directory: Path, widths: Mapping[str, int], mapping: Mapping[str, str]) -> Processing:
    """Read both pipelines of a checkpoint.

    widths: how many numbers ``observation.state`` and ``action`` have. mapping: config.json's normalization_mapping.
    Raises `BadInput` naming the file and what is missing, unknown or contradictory in it.
    """
    before, after = _read_steps(directory / PREPROCESSOR), _read_steps(directory / POSTPROCESSOR)
    for required, steps, file in (
        ("tokenizer_processor", before, PREPROCESSOR),
        ("normalizer_processor", before, PREPROCESSOR),
        ("unnormalizer_processor", after, POSTPROCESSOR),
    ):
        if required not in steps:
            raise BadInput(f"{directory / file}: no {required} step")
    tokenizing = validate(_Tokenizing, before["tokenizer_processor"].config, directory / PREPROCESSOR)
    renaming = _Renaming()
    if "rename_observations_processor" in before:
        renaming = validate(_Renaming, before["rename_observations_processor"].config, directory / PREPROCESSOR)
    return Processing(
        sources={new: old for old, new in renaming.rename_map.items()},
        template="{task}\n" if "pi0_new_line_processor" in before else "{task}",
        max_tokens=tokenizing.max_length,
        tokenizer_name=tokenizing.tokenizer_name,
        state=_normalisation(directory, before["normalizer_processor"], STATE, "STATE", widths, mapping),
        action=_normalisation(directory, after["unnormalizer_processor"], ACTION, "ACTION", widths, mapping),
    )


def _read_steps(path: Path) -> dict[str, _Step]:
    if not path.is_file():
        raise BadInput(
            f"no {path.name} in {path.parent}: statistics are read from LeRobot 0.6's processor files; migrate "
            "an older checkpoint with LeRobot's migrate_policy_normalization"
        )
    steps: dict[str, _Step] = {}
    for step in validate(_Pipeline, read_json(path), path).steps:
        name = step.registry_name
        if name not in STEPS:
            raise BadInput(f"{path}: step {name} is not supported; known are {', '.join(STEPS)}")
        if name in steps:
            raise BadInput(f"{path}: step {name} appears twice")
        for setting, allowed in STEPS[name].items():
            if step.config.get(setting, allowed[0]) not in allowed:
                raise BadInput(
                    f"{path}: {name}: {setting} is {step.config[setting]!r}; an export knows only {allowed[0]!r}"
                )
        steps[name] = step
    return steps


def _normalisation(
    directory: Path, step: _Step, key: str, kind: str, widths: Mapping[str, int], mapping: Mapping[str, str]
) -> Normalisation:
    modes: dict[str, Literal["mean_std", "identity"]] = {"MEAN_STD": "mean_std", "IDENTITY": "identity"}
    stated = validate(_Normalising, step.config, directory).norm_map.get(kind, "IDENTITY")
    if stated != mapping.get(kind, "IDENTITY"):
        raise BadInput(f"{directory}: config.json says {kind} is {mapping.get(kind)}, {step.registry_name} {stated}")
    if stated not in modes:
        raise BadInput(f"{directory}: {kind} is normalised by {stated}; an export knows only {', '.join(modes)}")
    if modes[stated] == "identity":
        return Normalisation(mode="identity")
    statistics = _read_statistics(directory, step)
    mean, std = (_vector(directory, statistics, f"{key}.{what}", widths[key]) for what in ("mean", "std"))
    return Normalisation(mode="mean_std", mean=mean, std=std)


def _read_statistics(directory: Path, step: _Step) -> dict[str, torch.Tensor]:
    if step.state_file is None or Path(step.state_file).name != step.state_file:
        raise BadInput(f"{directory}: {step.registry_name} names no statistics file beside it ({step.state_file})")
    path = directory / step.state_file
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: the statistics of {step.registry_name} cannot be read: {error}") from error


def _vector(directory: Path, statistics: Mapping[str, torch.Tensor], name: str, width: int) -> tuple[float, ...]:
    if name not in statistics:
        raise BadInput(f"{directory}: the statistics have no {name}; they have {', '.join(sorted(statistics))}")
    values = statistics[name].double()
    if values.shape != (width,) or not bool(values.isfinite().all()):
        raise BadInput(f"{directory}: {name} must be {width} finite numbers, it has shape {list(values.shape)}")
    return tuple(values.tolist())
