"""Directories of the vision-language models that toy policies were trained from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_export.models.flow_model import FlowModel
from vla_export.prune.base_vlm import LAYOUTS

Rename = Callable[[str], str]


def vlm_tensors(model: FlowModel, family: str) -> dict[str, Tensor]:
    """Copies of a policy's eyes and language model, under the names that transformers gives them today."""
    layout = LAYOUTS[family]
    return {
        layout.keys.theirs(name).removeprefix(f"{layout.prefix}."): tensor.clone()
        for name, tensor in model.named_parameters()
        if name.startswith(("vision", "language", "projector", "embedding"))
    }


def write_base(
    directory: Path, tensors: Mapping[str, Tensor], model_type: str = "paligemma", rename: Rename = str, shards: int = 1
) -> Path:
    """A directory as transformers saves it: config.json and safetensors, in one file or in shards with their index."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    named = {rename(name): tensor.contiguous() for name, tensor in tensors.items()}
    if shards == 1:
        save_file(named, directory / "model.safetensors")
        return directory
    files = [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
    where = {name: files[n % shards] for n, name in enumerate(named)}
    for file in files:
        save_file({name: tensor for name, tensor in named.items() if where[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return directory


def moved(tensors: Mapping[str, Tensor], size: float, seed: int = 0) -> dict[str, Tensor]:
    """Every weight another, by about ``size`` of itself."""
    generator = torch.Generator().manual_seed(seed)
    return {name: t + size * t.abs() * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}
