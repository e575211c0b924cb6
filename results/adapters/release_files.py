"""What training leaves, in the file layout of each method's release, for ``vla-export --adapter``.

LoRA        DIRECTORY/adapter_config.json, adapter_model.safetensors        as peft saves it
LoRA-SP     DIRECTORY/adapters.json, adapters.safetensors                   the tensors under the release's module names
VLA-GSE     DIRECTORY/config.yaml, dataset_statistics.json, checkpoints/steps_N_pytorch_model.pt
            the whole policy, the base weights as training adjusted them
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import yaml
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from reference.checkpoint import Statistics, write_json
from results.adapters.lora import LoRALinear
from results.adapters.lora_sp import LoRASPLinear
from results.adapters.vla_gse import VLAGSELinear
from results.adapters.wrapping import adapted_linears
from vla_export.adapters import peft_directory
from vla_export.adapters.reading import BESIDE
from vla_export.checkpoints.pi0_keys import PI0_KEYS
from vla_export.models.pi0 import Pi0
from vla_runtime.errors import BadInput

_BASE = ".base."


def write(directory: Path, model: Pi0, statistics: Statistics, steps: int) -> Path:
    """Write the adapter that ``model`` was wrapped with; returns the path to give to ``--adapter``.

    An adapter that is there already is replaced. The directory may be that of the checkpoint that ``model`` was, where
    ``--merge`` finds LoRA and LoRA-SP by themselves. statistics, steps: of the training, which VLA-GSE's files tell.
    Raises `BadInput` for a policy that no method has wrapped.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if lora := dict(adapted_linears(model, LoRALinear)):
        return _lora(directory, lora)
    if lora_sp := dict(adapted_linears(model, LoRASPLinear)):
        return _lora_sp(directory, lora_sp)
    if vla_gse := dict(adapted_linears(model, VLAGSELinear)):
        return _vla_gse(directory, model, vla_gse, statistics, steps)
    raise BadInput("the policy carries no adapter: wrap it with a method of results.adapters before it is trained")


def _lora(directory: Path, linears: Mapping[str, LoRALinear]) -> Path:
    names = [_theirs(path) for path in linears]
    settings = next(iter(linears.values())).settings
    tensors: dict[str, Tensor] = {}
    for name, linear in zip(names, linears.values(), strict=True):
        whole = f"base_model.model.{name}"
        tensors |= {f"{whole}.lora_A.weight": linear.A, f"{whole}.lora_B.weight": linear.B}
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, inference_mode=True)
    content = {**config.to_dict(), "target_modules": names}  # type: ignore[no-untyped-call]  # peft's is untyped
    _replacing(directory / peft_directory.CONFIG, lambda partial: write_json(partial, content))
    _save(directory / peft_directory.FILE, tensors)
    return directory


def _lora_sp(directory: Path, linears: Mapping[str, LoRASPLinear]) -> Path:
    settings = next(iter(linears.values())).settings
    tensors: dict[str, Tensor] = {}
    for path, linear in linears.items():
        *_, oldest = PI0_KEYS.every_name(_theirs(path))  # the release's code base is older than LeRobot 0.6
        tensors |= {f"{oldest}.A": linear.A, f"{oldest}.B": linear.B, f"{oldest}.router.weight": linear.router.weight}
    content = {
        "method": "lora_sp",
        "r": settings.r,
        "alpha": settings.alpha,
        "num_experts": settings.num_experts,
        "threshold": settings.threshold,
        "semantics": "released",
    }
    file = directory / BESIDE
    _replacing(file.with_suffix(".json"), lambda partial: write_json(partial, content))
    _save(file, tensors)
    return file


def _vla_gse(run: Path, model: Pi0, linears: Mapping[str, VLAGSELinear], statistics: Statistics, steps: int) -> Path:
    settings = next(iter(linears.values())).settings
    tensors: dict[str, Tensor] = {}
    for ours, tensor in model.state_dict().items():
        path, base, leaf = ours.partition(_BASE)
        if base:
            tensors[f"{_theirs(path)}.base_layer.{leaf}"] = tensor
        elif not any(ours.startswith(f"{path}.") for path in linears):
            tensors[PI0_KEYS.theirs(ours)] = tensor
    for path, linear in linears.items():
        tensors |= {f"{_theirs(path)}.{part}": tensor for part, tensor in _experts(linear).items()}
    method = {
        "r": settings.r,
        "num_experts": settings.num_experts,
        "num_generalized_experts": settings.num_generalized_experts,
        "top_k": settings.top_k,
        "init_type": "gse",
        "init_cof": 1.0,
        "specialized_scaling_method": "gradient_scale_balancing",
        "specialized_scaling_base": settings.base_scale,
        "aux_loss_weight": settings.balancing,
    }
    config = yaml.safe_dump({"trainer": {"gse": method}}, sort_keys=False)
    _replacing(run / "config.yaml", lambda partial: partial.write_text(config, encoding="utf-8"))
    _replacing(run / "dataset_statistics.json", lambda partial: write_json(partial, _statistics(statistics)))
    file = run / "checkpoints" / f"steps_{steps}_pytorch_model.pt"
    file.parent.mkdir(exist_ok=True)
    stored = {name: _stored(tensor) for name, tensor in tensors.items()}
    _replacing(file, lambda partial: torch.save(stored, partial))
    return file


def _experts(linear: VLAGSELinear) -> dict[str, Tensor]:
    """Every tensor beside the base layer, twice, as the release's modules share them."""
    tensors = {
        "lora_gating.default.weight": linear.router.weight,
        "moe_layer.default.gate.weight": linear.router.weight,
    }
    ranks, general = list(linear.settings.ranks), linear.settings.num_generalized_experts
    for n, (A, B) in enumerate(zip(torch.split(linear.A, ranks), torch.split(linear.B, ranks, dim=1), strict=True)):
        kind = f"generalized_experts.{n}" if n < general else f"specialized_experts.{n - general}"
        tensors |= {
            f"lora_A.default.{n}.weight": A,
            f"lora_B.default.{n}.weight": B,
            f"moe_layer.default.{kind}.lora_A.weight": A,
            f"moe_layer.default.{kind}.lora_B.weight": B,
            f"moe_layer.default.{kind}.scaling": linear.scaling[n],
        }
    return tensors


def _statistics(statistics: Statistics) -> dict[str, dict[str, dict[str, list[float]]]]:
    """As the release has them: it maps [-1, 1] to the range from q01 to q99, which here is mean ± deviation."""
    parts = {
        "action": (statistics.action_mean, statistics.action_std),
        "state": (statistics.state_mean, statistics.state_std),
    }
    return {
        "piper": {
            name: {
                "mean": mean.tolist(),
                "std": std.tolist(),
                "q01": (mean - std).tolist(),
                "q99": (mean + std).tolist(),
            }
            for name, (mean, std) in parts.items()
        }
    }


def _theirs(path: str) -> str:
    """LeRobot's name of one of our linears."""
    return PI0_KEYS.theirs(f"{path}.weight").removesuffix(".weight")


def _stored(tensor: Tensor) -> Tensor:
    """A tensor with memory of its own: a slice would be saved with all that it was cut from."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    stored = {name: _stored(tensor) for name, tensor in tensors.items()}
    _replacing(path, lambda partial: save_file(stored, partial, metadata={"format": "pt"}))


def _replacing(path: Path, fill: Callable[[Path], object]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    fill(partial)
    os.replace(partial, path)
