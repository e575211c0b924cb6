"""LoRA-SP adapters (arXiv 2603.07404) as their training saves them: tensors in one file, configuration beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vla_runtime.errors import BadInput

Semantics = Literal["released", "paper"]

_FIELDS = "method: lora_sp, r, alpha, num_experts; optionally threshold, semantics, router_projection"
_TENSORS = ("A", "B", "router.weight")


class LoRASPConfig(BaseModel):
    """How an adapter was trained; the tensors do not say.

    r: rank of one expert. num_experts: their number E; the bank is E·r directions. alpha: the update is scaled by
    alpha / r. threshold: the share η of the squared scores that selection keeps. semantics: ``released`` is what the
    published code computes and real checkpoints were trained with, ``paper`` what the article says; `RoutedLinear`
    has both. router_projection: the variant whose router scores experts rather than directions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    method: Literal["lora_sp"]
    r: int = Field(gt=0)
    alpha: float = Field(gt=0, allow_inf_nan=False)
    num_experts: int = Field(gt=0)
    threshold: float = Field(default=0.9, gt=0, le=1)
    semantics: Semantics = "released"
    router_projection: bool = False

    @property
    def bank(self) -> int:
        """Number of directions the router chooses from."""
        return self.r * self.num_experts

    @property
    def scale(self) -> float:
        """Factor of the whole update."""
        return self.alpha / self.r


@dataclass(frozen=True)
class LoRASPBranch:
    """Tensors of one adapted linear: A and router (bank, in), B (out, bank)."""

    A: Tensor
    B: Tensor
    router: Tensor


@dataclass(frozen=True)
class LoRASPAdapter:
    """A whole adapter; ``branches`` by the dotted path of the linear in the training project's policy."""

    path: Path
    config: LoRASPConfig
    branches: Mapping[str, LoRASPBranch]


def read_lora_sp(path: Path) -> LoRASPAdapter:
    """Read ``path`` (safetensors) and the ``.json`` or ``.yaml`` of the same stem beside it.

    Raises BadInput where either is missing or malformed, where a linear has only some of its three tensors, and where a
    tensor is unknown, misshapen, not finite, or the whole adapter changes nothing.
    """
    if not path.is_file():
        raise BadInput(f"adapter {path}: no such file; expected the adapters.safetensors that LoRA-SP training saves")
    config = _read_config(path)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"adapter {path}: not a readable safetensors file ({error}); copy it again") from error
    branches = {module: _branch(path, module, parts, config) for module, parts in _by_module(path, tensors).items()}
    if not branches:
        raise BadInput(f"adapter {path}: holds no tensors; expected MODULE.A, MODULE.B and MODULE.router.weight")
    if not any(branch.B.any() for branch in branches.values()):
        raise BadInput(f"adapter {path}: every B is zero, so it changes nothing; give the trained adapter")
    return LoRASPAdapter(path, config, branches)


def _read_config(adapter: Path) -> LoRASPConfig:
    candidates = [adapter.with_suffix(suffix) for suffix in (".json", ".yaml")]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if len(found) != 1:
        problem = "both exist, keep one" if found else f"the adapter's configuration is missing, write it ({_FIELDS})"
        raise BadInput(f"{candidates[0]} or {candidates[1].name}: {problem}")
    source = found[0]
    try:
        text = source.read_text(encoding="utf-8")
        values: Any = json.loads(text) if source.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise BadInput(f"{source}: not valid {source.suffix[1:]}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise BadInput(f"{source}: expected named fields ({_FIELDS})")
    try:
        config = LoRASPConfig.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadInput(f"{source}: {problems} (fields: {_FIELDS})") from error
    if config.router_projection:
        raise BadInput(f"{source}: router_projection is not supported yet; expected false")
    return config


def _by_module(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        part = next((p for p in _TENSORS if key.endswith(f".{p}")), None)
        if part is None:
            raise BadInput(f"adapter {path}: unknown tensor {key}; expected MODULE.A, MODULE.B or MODULE.router.weight")
        modules.setdefault(key.removesuffix(f".{part}"), {})[part] = tensor
    return modules


def _branch(path: Path, module: str, parts: Mapping[str, Tensor], config: LoRASPConfig) -> LoRASPBranch:
    missing = [f"{module}.{part}" for part in _TENSORS if part not in parts]
    if missing:
        raise BadInput(f"adapter {path}: {' and '.join(missing)} missing; every linear needs A, B and router.weight")
    for part in _TENSORS:
        tensor, bank_axis = parts[part], 1 if part == "B" else 0
        if tensor.ndim != 2 or tensor.shape[bank_axis] != config.bank:
            expected = f"(out, {config.bank})" if part == "B" else f"({config.bank}, in)"
            raise BadInput(
                f"adapter {path}: {module}.{part} has shape {tuple(tensor.shape)}; expected {expected}, "
                f"as r {config.r} x num_experts {config.num_experts} makes the bank"
            )
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise BadInput(f"adapter {path}: {module}.{part} is not all finite numbers; the training run diverged")
    if parts["A"].shape != parts["router.weight"].shape:
        shapes = f"{tuple(parts['A'].shape)} and {tuple(parts['router.weight'].shape)}"
        raise BadInput(f"adapter {path}: {module}.A and {module}.router.weight differ in shape: {shapes}")
    return LoRASPBranch(parts["A"], parts["B"], parts["router.weight"])
