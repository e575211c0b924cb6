"""LeRobot's processor files since 0.4: what happens to an observation before the policy and to its actions after.

``policy_preprocessor.json`` and ``policy_postprocessor.json`` list steps; a step's statistics lie in the safetensors
file it names. A step that an export cannot honour is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from vla_export.checkpoints.contents import Contents
from vla_export.checkpoints.documents import read_json, validate
from vla_export.checkpoints.lerobot_fields import TENSORS
from vla_export.checkpoints.normalisation import identity
from vla_export.checkpoints.policy_config import Kind, Mode, PolicyConfig, Prompt
from vla_export.checkpoints.processing import NEW_LINE, STATE_IN_WORDS, Processing, normalisation
from vla_export.checkpoints.relative_actions import relative_dimensions
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_runtime.bundle.manifest import Normalisation
from vla_runtime.errors import BadInput

Settings = TypeVar("Settings", bound=BaseModel)

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
EPSILON = 1e-8  # what LeRobot adds to the standard deviations of what goes in
GUARDS: dict[tuple[Kind, Mode], float] = {("STATE", "MEAN_STD"): EPSILON}  # elsewhere it adds nothing

RENAME, TOKENIZE, NORMALISE, UNNORMALISE, RELATIVE, ABSOLUTE = (
    "rename_observations_processor",
    "tokenizer_processor",
    "normalizer_processor",
    "unnormalizer_processor",
    "relative_actions_processor",
    "absolute_actions_processor",
)
# Each family's own step before the tokenizer, and the prompt it makes.
PROMPTS: dict[str, tuple[str, Prompt]] = {
    "pi0": ("pi0_new_line_processor", NEW_LINE),
    "pi05": ("pi05_prepare_state_tokenizer_processor_step", STATE_IN_WORDS),
    "smolvla": ("smolvla_new_line_processor", NEW_LINE),
}
BARE = Prompt("{task}")
RENAMED = {"delta_actions_processor": RELATIVE}  # what 0.5.1 called it
# Pairs of steps of which the first must come first.
ORDER = ((RELATIVE, NORMALISE), (NORMALISE, PROMPTS["pi05"][0]), *((step, TOKENIZE) for step, _ in PROMPTS.values()))

# For each step, the settings that may have one of these values only; other settings of these steps change nothing.
STEPS: dict[str, dict[str, tuple[object, ...]]] = {
    RENAME: {},
    "to_batch_processor": {},
    TOKENIZE: {"task_key": ("task",), "padding_side": ("right",), "padding": ("max_length", "longest")},
    "device_processor": {"float_dtype": (None, "float32")},
    RELATIVE: {"enabled": (False, True)},
    ABSOLUTE: {"enabled": (False, True)},
    NORMALISE: {"eps": (EPSILON,), "normalize_observation_keys": (None,)},
    UNNORMALISE: {"eps": (EPSILON,), "normalize_observation_keys": (None,)},
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
    norm_map: dict[str, Mode]


class _Enabled(BaseModel):
    enabled: bool = False


class _Relative(_Enabled):
    exclude_joints: tuple[str, ...] = ()
    action_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Steps:
    """One pipeline's steps by name, in their order."""

    path: Path
    by_name: Mapping[str, _Step]

    def required(self, name: str) -> _Step:
        if name not in self.by_name:
            raise BadInput(f"{self.path}: no {name} step")
        return self.by_name[name]

    def settings(self, model: type[Settings], name: str) -> Settings:
        """Of a step that may be absent."""
        return validate(model, self.by_name[name].config if name in self.by_name else {}, self.path)


def read_processors(contents: Contents, config: PolicyConfig) -> Processing:
    """Read both pipelines of a checkpoint whose config.json says ``config``.

    Raises `BadInput` naming the file and what is missing, unknown or contradictory in it.
    """
    before = _read_steps(contents.directory / PREPROCESSOR, config.family)
    after = _read_steps(contents.directory / POSTPROCESSOR, config.family)
    normaliser, unnormaliser = before.required(NORMALISE), after.required(UNNORMALISE)
    tokenizing = validate(_Tokenizing, before.required(TOKENIZE).config, before.path)
    if tokenizing.max_length != config.max_tokens:
        raise BadInput(
            f"{before.path}: {TOKENIZE}: max_length is {tokenizing.max_length}, config.json's tokenizer_max_length "
            f"{config.max_tokens}"
        )
    _check_relative(before, after, config)
    renaming = before.settings(_Renaming, RENAME).rename_map
    return Processing(
        sources={new: old for old, new in renaming.items()},
        prompt=_prompt(before, config.family),
        tokenizer=tokenizing.tokenizer_name,
        state=_normalisation(before.path, normaliser, "STATE", config),
        action=_normalisation(after.path, unnormaliser, "ACTION", config),
    )


def _read_steps(path: Path, family: str) -> _Steps:
    if not path.is_file():
        raise BadInput(
            f"half a checkpoint: no {path.name} in {path.parent}, though LeRobot since 0.4 always writes "
            f"{PREPROCESSOR} and {POSTPROCESSOR}; copy it there too"
        )
    allowed = STEPS | {PROMPTS[family][0]: {"task_key": ("task",)}}
    steps: dict[str, _Step] = {}
    for step in validate(_Pipeline, read_json(path), path).steps:
        name = RENAMED.get(step.registry_name, step.registry_name)
        if name not in allowed:
            raise BadInput(f"{path}: step {name} is not supported; known for {family} are {', '.join(allowed)}")
        if name in steps:
            raise BadInput(f"{path}: step {name} appears twice")
        for setting, values in allowed[name].items():
            if step.config.get(setting, values[0]) not in values:
                raise BadInput(
                    f"{path}: {name}: {setting} is {step.config[setting]!r}; an export knows only {values[0]!r}"
                )
        steps[name] = step
    for first, second in ORDER:
        if first in steps and second in steps and list(steps).index(first) > list(steps).index(second):
            raise BadInput(f"{path}: {first} must come before {second}")
    return _Steps(path, steps)


def _prompt(before: _Steps, family: str) -> Prompt:
    step, prompt = PROMPTS[family]
    if step in before.by_name:
        return prompt
    if prompt.state_bins is not None:
        raise BadInput(f"{before.path}: no {step} step: the policy would not know the state")
    return BARE


def _check_relative(before: _Steps, after: _Steps, config: PolicyConfig) -> None:
    relative, absolute = before.settings(_Relative, RELATIVE), after.settings(_Enabled, ABSOLUTE)
    dimensions: tuple[bool, ...] = ()
    if relative.enabled:
        dimensions = relative_dimensions(config.action.numbers, relative.exclude_joints, relative.action_names)
    if absolute.enabled != relative.enabled:
        raise BadInput(f"{after.path}: {ABSOLUTE} and {before.path.name}'s {RELATIVE} must both be enabled, or neither")
    if dimensions != config.relative:
        raise BadInput(
            f"{before.path}: {RELATIVE} makes other dimensions relative to the state than config.json's "
            "use_relative_actions, relative_exclude_joints and action_feature_names say"
        )


def _normalisation(path: Path, step: _Step, kind: Kind, config: PolicyConfig) -> Normalisation:
    feature, widths = TENSORS[kind], config.state if kind == "STATE" else config.action
    mode = validate(_Normalising, step.config, path).norm_map.get(kind, "IDENTITY")
    if mode != config.modes[kind]:
        raise BadInput(f"{path}: {step.registry_name} has {mode} for {kind}, config.json {config.modes[kind]}")
    if mode == "IDENTITY":
        return identity(widths.numbers)
    where, statistics = _read_statistics(path, step, feature)
    return normalisation(where, feature, mode, statistics, widths.numbers, GUARDS.get((kind, mode), 0.0))


def _read_statistics(path: Path, step: _Step, feature: str) -> tuple[str, dict[str, list[float]]]:
    """Where a step's statistics lie, and those of one feature by name; none where the step has no file."""
    if step.state_file is None:
        return f"{path}: {step.registry_name}", {}
    if Path(step.state_file).name != step.state_file:
        raise BadInput(f"{path}: {step.registry_name} names no statistics file beside it ({step.state_file})")
    file = path.parent / step.state_file
    stored = StoredTensors.in_file(file)
    names = {name.removeprefix(f"{feature}."): name for name in stored if name.startswith(f"{feature}.")}
    return str(file), {short: stored.read(name).double().tolist() for short, name in names.items()}
