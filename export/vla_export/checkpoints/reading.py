"""From a directory to a `Checkpoint`: which family it is, and that family's reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vla_export.checkpoints.checkpoint import Checkpoint
from vla_export.checkpoints.documents import read_json
from vla_export.checkpoints.lerobot_pi0 import read_pi0
from vla_runtime.errors import BadInput

FAMILIES: Mapping[str, Callable[[Path, dict[str, Any]], Checkpoint]] = {"pi0": read_pi0}


def read(path: Path) -> Checkpoint:
    """Read the checkpoint in a directory; raises `BadInput` where there is none, or none that can be exported."""
    config = path / "config.json"
    if not config.is_file() or not (path / "model.safetensors").is_file():
        raise BadInput(
            f"no checkpoint in {path}: expected config.json and model.safetensors (LeRobot layout); "
            "LeRobot's training writes them to checkpoints/last/pretrained_model"
        )
    content = read_json(config)
    family = content.get("type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise BadInput(f"{config}: unknown family {family!r} in 'type'; supported: {', '.join(FAMILIES)}")
    return FAMILIES[family](path, content)
