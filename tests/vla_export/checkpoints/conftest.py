"""The golden checkpoint as a directory a test may spoil."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vla_export.checkpoints.contents import Contents, open_contents

GOLDENS = Path(__file__).parents[2] / "oracles" / "goldens"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDENS / "pi0", tmp_path / "pi0"))


@pytest.fixture
def contents_with() -> Callable[..., Contents]:
    """A checkpoint's contents after a function has changed the fields of its config.json in memory."""

    def change(directory: Path, edit: Callable[[dict[str, Any]], object] = lambda _: None) -> Contents:
        contents = open_contents(directory)
        config = json.loads(json.dumps(dict(contents.config)))
        edit(config)
        return replace(contents, config=config)

    return change


@pytest.fixture
def change_json(checkpoint: Path) -> Callable[..., None]:
    """Sets fields of a JSON file of the checkpoint."""

    def change(file: str, **fields: Any) -> None:
        path = checkpoint / file
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


@pytest.fixture
def change_step(checkpoint: Path) -> Callable[..., None]:
    """Sets settings of one step of a processor file."""

    def change(file: str, step: str, **settings: Any) -> None:
        path = checkpoint / file
        content = json.loads(path.read_text())
        next(s for s in content["steps"] if s["registry_name"] == step)["config"] |= settings
        path.write_text(json.dumps(content))

    return change


@pytest.fixture
def change_tensors(checkpoint: Path) -> Callable[[Callable[[dict[str, torch.Tensor]], None]], None]:
    """Rewrites model.safetensors after a function has changed its dictionary of tensors."""

    def change(edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
        path = checkpoint / "model.safetensors"
        tensors = load_file(path)
        edit(tensors)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    return change
