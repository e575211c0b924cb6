"""A π0 as LeRobot 0.6 lays its checkpoint out, with the three things a deployment adds.

config.json (and in it the sizes LeRobot hard-codes), model.safetensors, the two processors and their statistics;
tokenizer.json, deployment.yaml.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.models.pi0 import Pi0, Pi0Config
from vla_export.models.stem import StemSize
from vla_runtime.arms.piper_limits import firmware_limits
from vla_runtime.errors import BadInput

CAMERAS = ("side", "wrist")
NAMES = (*(f"joint{n}" for n in range(1, 7)), "gripper")
UNITS = ("rad",) * 6 + ("m",)
DIMENSIONS = len(NAMES)
RATE = 10  # actions per second


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of state and action, in [rad] and [m]; each of shape (7,)."""

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor


@dataclass(frozen=True)
class Words:
    """How a task becomes tokens: at most ``limit`` of them, beginning of sentence and line end included."""

    tokenizer: Tokenizer
    limit: int


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A directory to write a checkpoint into, which takes the place of ``directory`` when all is written.

    An earlier checkpoint there is replaced; raises `BadInput` where something else is in the way.
    """
    if directory.exists() and not (directory / "config.json").is_file():
        if not directory.is_dir() or any(directory.iterdir()):
            raise BadInput(f"{directory} is in the way and is no checkpoint: choose another directory")
        directory.rmdir()
    partial = directory.with_name(f".{directory.name}.partial-{secrets.token_hex(4)}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if directory.exists():
            shutil.rmtree(directory)
        partial.rename(directory)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def write_policy(
    directory: Path,
    model: Pi0,
    statistics: Statistics,
    words: Words,
    flow_steps: int,
    unread: Mapping[str, Tensor] | None = None,
) -> None:
    """Write every file of the checkpoint into an empty directory.

    unread: tensors that LeRobot saves and inference never reads, by LeRobot's name.
    """
    write_json(directory / "config.json", _config(model.config, words.limit, flow_steps))
    tensors = {PI0_KEYS.theirs(ours): tensor.contiguous() for ours, tensor in model.state_dict().items()}
    save_file({**tensors, **(unread or {})}, directory / "model.safetensors", metadata={"format": "pt"})
    _write_processors(directory, model.config, statistics, words.limit)
    words.tokenizer.save(str(directory / "tokenizer.json"))
    _write_deployment(directory / "deployment.yaml")


def _features(sizes: Pi0Config) -> tuple[dict[str, Any], dict[str, Any]]:
    image = {"type": "VISUAL", "shape": [3, sizes.image_size, sizes.image_size]}
    inputs = {
        **{f"observation.images.{camera}": image for camera in CAMERAS},
        "observation.state": {"type": "STATE", "shape": [DIMENSIONS]},
    }
    return inputs, {"action": {"type": "ACTION", "shape": [DIMENSIONS]}}


_NORMALISATION = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}


def sizes_of(sizes: Pi0Config) -> dict[str, Any]:
    """The fields of config.json that LeRobot hard-codes: which tower sees, and every width and depth."""
    stem = isinstance(sizes.vision, StemSize)
    tower = {"stem_config": asdict(sizes.vision)} if stem else {"vision_config": asdict(sizes.vision)}
    return {
        **tower,
        **({} if stem else {"patch_size": sizes.patch_size}),
        "language_config": asdict(sizes.language),
        "vocab_size": sizes.vocabulary,
    }


def _config(sizes: Pi0Config, max_tokens: int, flow_steps: int) -> dict[str, Any]:
    """What LeRobot writes of a π0, without its training settings, and the sizes."""
    inputs, outputs = _features(sizes)
    return {
        "type": "pi0",
        "n_obs_steps": 1,
        "input_features": inputs,
        "output_features": outputs,
        "device": "cpu",
        "use_amp": False,
        "use_peft": False,
        "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m",
        "dtype": "float32",
        "chunk_size": sizes.horizon,
        "n_action_steps": sizes.horizon,
        "max_state_dim": sizes.state_width,
        "max_action_dim": sizes.action_width,
        "num_inference_steps": flow_steps,
        "min_period": sizes.min_period,
        "max_period": sizes.max_period,
        "use_relative_actions": False,
        "rtc_config": None,
        "image_resolution": [sizes.image_size, sizes.image_size],
        "empty_cameras": 0,
        "normalization_mapping": _NORMALISATION,
        "tokenizer_max_length": max_tokens,
        **sizes_of(sizes),
        "expert_config": asdict(sizes.expert),
    }


def _write_processors(directory: Path, sizes: Pi0Config, statistics: Statistics, max_tokens: int) -> None:
    inputs, outputs = _features(sizes)
    device = {"device": "cpu", "float_dtype": None}
    relative = {"enabled": False, "exclude_joints": ["gripper"], "action_names": None}
    tokenizing = {
        "max_length": max_tokens,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": "tokenizer.json",
    }
    normalising = {"eps": 1e-8, "norm_map": _NORMALISATION}
    before: tuple[tuple[str, dict[str, Any]], ...] = (
        ("rename_observations_processor", {"rename_map": {}}),
        ("to_batch_processor", {}),
        ("pi0_new_line_processor", {}),
        ("tokenizer_processor", tokenizing),
        ("device_processor", device),
        ("relative_actions_processor", relative),
        ("normalizer_processor", {**normalising, "features": {**inputs, **outputs}}),
    )
    after: tuple[tuple[str, dict[str, Any]], ...] = (
        ("unnormalizer_processor", {**normalising, "features": outputs}),
        ("absolute_actions_processor", {"enabled": False}),
        ("device_processor", device),
    )
    for name, steps in (("policy_preprocessor", before), ("policy_postprocessor", after)):
        _write_pipeline(directory, name, steps, statistics)


def _write_pipeline(
    directory: Path, name: str, steps: Iterable[tuple[str, dict[str, Any]]], statistics: Statistics
) -> None:
    entries: list[dict[str, Any]] = []
    for n, (step, config) in enumerate(steps):
        entries.append({"registry_name": step, "config": config})
        if "norm_map" in config:
            entries[-1]["state_file"] = f"{name}_step_{n}_{step}.safetensors"
            numbers = {
                "observation.state.mean": statistics.state_mean,
                "observation.state.std": statistics.state_std,
                "action.mean": statistics.action_mean,
                "action.std": statistics.action_std,
            }
            values = {key: value.to(torch.float32).clone() for key, value in numbers.items()}
            save_file(values, directory / entries[-1]["state_file"])
    write_json(directory / f"{name}.json", {"name": name, "steps": entries})


def _write_deployment(path: Path) -> None:
    space = [
        {"name": name, "unit": unit, "lower": _inside(lower), "upper": _inside(upper)}
        for name, unit, (lower, upper) in zip(NAMES, UNITS, firmware_limits(), strict=True)
    ]
    text = yaml.safe_dump({"rate": RATE, "state": space, "action": [dict(d) for d in space]}, sort_keys=False)
    path.write_text(text, encoding="utf-8")


def _inside(limit: float) -> float:
    """Three digits, rounded towards zero: no limit is written wider than it is."""
    return math.trunc(limit * 1000) / 1000


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object as the project writes them all."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
