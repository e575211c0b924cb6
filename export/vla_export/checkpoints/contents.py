"""What lies in a checkpoint's directory, before anybody has understood it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_export.checkpoints.documents import read_json
from vla_export.checkpoints.stored_tensors import StoredTensors, has_weights
from vla_runtime.errors import BadInput

CONFIG = "config.json"
ADAPTER = "adapters.safetensors"
PICKLES = (".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Contents:
    """The two things every layout has: ``config.json`` and the weights, of which only the headers are read."""

    directory: Path
    config: Mapping[str, Any]
    tensors: StoredTensors

    @property
    def config_path(self) -> Path:
        """Where ``config`` was read from, for messages."""
        return self.directory / CONFIG

    def has(self, file: str) -> bool:
        """Whether there is a file of that name."""
        return (self.directory / file).is_file()


def open_contents(directory: Path, tensors: StoredTensors | None = None) -> Contents:
    """Open a checkpoint's directory; raises `BadInput` that says which half of a checkpoint is missing.

    tensors: the weights, where they are not the directory's own.
    """
    has_config, weights = (directory / CONFIG).is_file(), has_weights(directory)
    if tensors is not None:
        if not has_config:
            raise BadInput(f"no {CONFIG} in {directory}, which says what policy the weights in {tensors.path} are")
        return Contents(directory, read_json(directory / CONFIG), tensors)
    if has_config and weights:
        return Contents(directory, read_json(directory / CONFIG), StoredTensors.in_directory(directory))
    if not has_config and not weights:
        if (directory / ADAPTER).is_file():
            raise BadInput(
                f"{directory} holds an adapter without its policy: give the policy's checkpoint, and this directory "
                "with --adapter"
            )
        raise BadInput(
            f"no checkpoint in {directory}: expected {CONFIG} and model.safetensors, or its shards with "
            "model.safetensors.index.json; LeRobot's training writes them to checkpoints/last/pretrained_model"
        )
    if has_config:
        pickles = [path.name for path in sorted(directory.iterdir()) if path.suffix in PICKLES]
        raise BadInput(
            f"half a checkpoint in {directory}: {CONFIG}, but no model.safetensors; copy it there too"
            + (f" ({', '.join(pickles)} may run code when opened: save the weights as safetensors)" if pickles else "")
        )
    raise BadInput(
        f"half a checkpoint in {directory}: model.safetensors, but no {CONFIG}; copy it there too (openpi's own "
        "training writes none: write what its conversion does, action_dim, action_horizon, paligemma_variant, "
        "action_expert_variant and precision)"
    )
