"""Adapters for the toy policy, on disk as their training leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.toy_policy import toy_policy
from vla_export.models.pi0 import Pi0

CONFIG = {"method": "lora_sp", "r": 2, "alpha": 4.0, "num_experts": 3}
ADAPTED = ("q_proj", "v_proj", "down_proj", "action_out_proj")


class AdapterFiles:
    """Writes a LoRA-SP adapter under ``root``: the tensors, then the configuration unless it is None."""

    def __init__(self, root: Path, model: Pi0) -> None:
        self.path = root / "adapters.safetensors"
        self.linears = {
            path: module
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and path.rpartition(".")[2] in ADAPTED
        }
        # The training project calls them otherwise.
        self.modules = {f"model.trained.{path}": path for path in self.linears}

    def tensors(self, seed: int = 0) -> dict[str, Tensor]:
        """Branches whose update is about a tenth of the linear's own output."""
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for source, path in self.modules.items():
            linear = self.linears[path]
            for name, shape, size in (
                ("A", (6, linear.in_features), linear.in_features**-0.5),
                ("B", (linear.out_features, 6), 0.03),
                ("router.weight", (6, linear.in_features), linear.in_features**-0.5),
            ):
                tensors[f"{source}.{name}"] = torch.randn(shape, generator=generator) * size
        return tensors

    def write(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = CONFIG) -> Path:
        save_file(dict(tensors), self.path)
        if config is not None:
            self.path.with_suffix(".json").write_text(json.dumps(config), encoding="utf-8")
        return self.path


@pytest.fixture
def policy() -> Pi0:
    return toy_policy()


@pytest.fixture
def files(tmp_path: Path, policy: Pi0) -> AdapterFiles:
    return AdapterFiles(tmp_path, policy)
