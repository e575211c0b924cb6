"""The tiny policies that other projects saved, and what they computed of raw observations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from vla_export.checkpoints.checkpoint import Checkpoint
from vla_runtime.policy.actions import absolute_actions
from vla_runtime.policy.observation import Observation
from vla_runtime.policy.preprocessing import Preprocessor
from vla_runtime.policy.tokens import TaskTokenizer
from vla_runtime.profiling.spans import Spans

GOLDENS = Path(__file__).parents[2] / "oracles" / "goldens"
LAYOUTS = GOLDENS / "layouts"
IMAGES = "observation.images."


@dataclass(frozen=True)
class Golden:
    """One observation as a robot has it, the noise, and everything that was computed of it by name."""

    task: str
    frames: Mapping[str, NDArray[Any]]
    state: NDArray[np.float64]
    noise: Tensor
    computed: Mapping[str, Tensor]
    about: Mapping[str, Any]


def read_golden(path: Path) -> Golden:
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    task = metadata["task"] if "task" in metadata else bytes(tensors["task"].tolist()).decode()
    return Golden(
        task=task,
        frames={n.removeprefix("frame."): t.numpy() for n, t in tensors.items() if n.startswith("frame.")},
        state=tensors["raw_state"].double().numpy(),
        noise=tensors["noise"].float(),
        computed=tensors,
        about=json.loads(metadata.get("about", "{}")),
    )


def copy_checkpoint(source: Path, directory: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(source, directory / source.name))


def change_config(checkpoint: Path, **fields: Any) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_deployment(checkpoint: Path, **fields: Any) -> None:
    path = checkpoint / "deployment.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | fields))


def with_cameras(checkpoint: Path, sizes: Mapping[str, tuple[int, int]], variant: Mapping[str, Any]) -> None:
    """Declare a variant's cameras in its order, of which the robot lacks those that nothing observed."""
    cameras, settings = variant["cameras"], variant.get("settings", {})
    features = {f"{IMAGES}{c}": {"type": "VISUAL", "shape": [3, *sizes[c]]} for c in cameras}
    for n in range(settings.get("empty_cameras", 0)):
        features[f"{IMAGES}empty_camera_{n}"] = {"type": "VISUAL", "shape": [3, 42, 42]}
    state = {"observation.state": {"type": "STATE", "shape": [7]}}
    change_config(checkpoint, **{"input_features": features | state, "empty_cameras": 0} | settings)
    missing = [camera for camera in cameras if camera not in variant.get("observed", cameras)]
    change_deployment(checkpoint, missing_cameras=missing)


def observe(policy: Checkpoint, golden: Golden) -> dict[str, Tensor]:
    """What the robot's runtime makes of the raw observation: the inputs of encode."""
    interface = policy.interface
    tokenizer = TaskTokenizer(interface.tokenizer_definition, interface.tokenizer)
    preprocessor = Preprocessor(interface.cameras, interface.state, tokenizer, Spans())
    preprocessor.set_task(golden.task)
    frames = {camera.name: golden.frames[camera.name] for camera in interface.cameras}
    observed = preprocessor(Observation(frames, golden.state))
    return {name: torch.from_numpy(array) for name, array in observed.items()}


@torch.no_grad()
def act(
    policy: Checkpoint, observed: Mapping[str, Tensor], golden: Golden, *, adds_up_time: bool
) -> tuple[Tensor, NDArray[np.float64]]:
    """The normalised chunk (H, padded) and the actions (H, n) in the robot's units.

    adds_up_time: whether to subtract 1 / steps from the flow's time again and again in float32, as LeRobot up to 0.3
    and openpi do; that alone is an error of 1e-5 in their answers, since the time's fastest sine turns in 0.004.
    """
    interface = policy.interface
    prefix = policy.model.encode(observed)
    if adds_up_time:
        chunk, step, time = golden.noise, torch.tensor(-1.0 / interface.flow_steps), torch.tensor(1.0)
        for _ in range(interface.flow_steps):
            chunk = chunk + step * policy.model.velocity(chunk, time[None], prefix)
            time = time + step
    else:
        chunk = policy.model.sample(prefix, golden.noise, interface.flow_steps)
    return chunk[0], absolute_actions(chunk[0].numpy(), golden.state, interface.state, interface.action)


def error(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest number expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())
