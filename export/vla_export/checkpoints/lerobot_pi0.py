"""A π0 as LeRobot 0.6 saves it → a `Checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vla_export.checkpoints.checkpoint import Checkpoint, Interface
from vla_export.checkpoints.deployment import read_deployment
from vla_export.checkpoints.lerobot_config import ACTION, IMAGES, STATE, LeRobotPi0, parse_config
from vla_export.checkpoints.lerobot_processors import read_processing
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.checkpoints.tokenizer import FILE as TOKENIZER
from vla_export.checkpoints.tokenizer import read_tokenizer
from vla_export.checkpoints.weights import load_weights
from vla_export.models.pi0 import Pi0
from vla_runtime.bundle.bundle import sha256
from vla_runtime.bundle.manifest import Camera, Space
from vla_runtime.errors import BadInput


def read_pi0(directory: Path, content: dict[str, Any]) -> Checkpoint:
    """Read the checkpoint whose config.json holds ``content``; the small files first, the weights last."""
    config = parse_config(content, directory / "config.json")
    interface = _interface(directory, config)
    weights = directory / "model.safetensors"
    with torch.device("meta"):
        model = Pi0(config.sizes())
    ignored = load_weights(model, weights, PI0_KEYS)
    model.eval().requires_grad_(False)
    return Checkpoint(
        root=directory,
        family="pi0",
        sha256=sha256(weights),
        model=model,
        interface=interface,
        modules=PI0_KEYS.linears(model),
        ignored=ignored,
    )


def _interface(directory: Path, config: LeRobotPi0) -> Interface:
    sizes = config.sizes()
    numbers = {STATE: config.input_features[STATE].shape[0], ACTION: config.output_features[ACTION].shape[0]}
    processing = read_processing(directory, numbers, config.normalization_mapping)
    if processing.max_tokens != config.tokenizer_max_length:
        raise BadInput(
            f"{directory}: config.json's tokenizer_max_length is {config.tokenizer_max_length}, "
            f"the tokenizer step's max_length {processing.max_tokens}"
        )
    deployment = read_deployment(directory, numbers[STATE], numbers[ACTION])
    tokenizer = read_tokenizer(
        directory, processing.tokenizer_name, processing.template, processing.max_tokens, sizes.vocabulary
    )
    side = sizes.image_size
    names = [processing.sources.get(key, key).removeprefix(IMAGES) for key in config.cameras()]
    return Interface(
        cameras=tuple(Camera(name=name, height=side, width=side) for name in names),
        state=Space(dimensions=deployment.state, normalisation=processing.state, padded_to=sizes.state_width),
        action=Space(dimensions=deployment.action, normalisation=processing.action, padded_to=sizes.action_width),
        horizon=sizes.horizon,
        rate=deployment.rate,
        flow_steps=config.num_inference_steps,
        tokenizer=tokenizer,
        tokenizer_path=directory / TOKENIZER,
    )
