"""How an adapter of LoRA-SP's release was trained, which its tensors do not say: from a file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vla_export.adapters.four_bit import FourBit
from vla_export.adapters.gating import Routing, Semantics
from vla_export.checkpoints.documents import read_json, read_yaml, validate
from vla_runtime.errors import BadInput

TRAIN_CONFIG = "train_config.json"
FIELDS = (
    "method: lora_sp, r, alpha, num_experts; optionally threshold, semantics, router_projection, routing; "
    "or method: lora, lora_moe or lora_ada"
)

_METHODS = {"lora_msp": "lora_sp", "lora": "lora", "lora_moe": "lora_moe", "lora_ada": "lora_ada"}
# Fields of the release's own configuration that change training and storage, never what a trained layer computes.
_TRAINING = frozenset(
    {
        "dropout", "compute_dtype_", "quant_storage_", "merge_weights", "router_weight_update",
        "target_threshold_init", "target_threshold_end", "max_threshold_step",
        "use_spec_loss", "use_modular_loss", "use_id_loss",
    }
)  # fmt: skip


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    r: int = Field(gt=0)
    alpha: float = Field(gt=0, allow_inf_nan=False)
    four_bit: FourBit | None = None

    @property
    def scale(self) -> float:
        """Factor of the whole update, whatever the number of experts."""
        return self.alpha / self.r


class LoRASPConfig(_Config):
    """LoRA-SP (arXiv 2603.07404). r: rank of one expert; the bank is num_experts · r directions.

    threshold: the share η of the squared scores that selection keeps. semantics: ``released`` is what the published
    code computes and real checkpoints were trained with, ``paper`` what the article says. router_projection: the
    variant whose router scores experts rather than directions, and routing which of them it keeps.
    """

    method: Literal["lora_sp"] = "lora_sp"
    num_experts: int = Field(gt=0)
    threshold: float = Field(default=0.9, gt=0, le=1)
    semantics: Semantics = "released"
    router_projection: bool = False
    routing: Routing = "weighted"

    @property
    def bank(self) -> int:
        """Number of directions the router chooses from."""
        return self.r * self.num_experts


class LoRAConfig(_Config):
    """Plain LoRA (arXiv 2106.09685)."""

    method: Literal["lora"] = "lora"


class LoRAMoEConfig(_Config):
    """A mixture of LoRA experts behind a softmax router. routing: all weighted, the largest alone, or two."""

    method: Literal["lora_moe"] = "lora_moe"
    num_experts: int = Field(gt=0)
    routing: Routing = "weighted"


class AdaLoRAConfig(_Config):
    """AdaLoRA (arXiv 2303.10512)."""

    method: Literal["lora_ada"] = "lora_ada"


ReleaseConfig = LoRASPConfig | LoRAConfig | LoRAMoEConfig | AdaLoRAConfig

_MODELS: Mapping[str, type[ReleaseConfig]] = {
    "lora_sp": LoRASPConfig,
    "lora": LoRAConfig,
    "lora_moe": LoRAMoEConfig,
    "lora_ada": AdaLoRAConfig,
}


def find_release_config(directory: Path, stem: str) -> Path:
    """``stem``.json or .yaml in ``directory``, else the ``train_config.json`` that the release's training writes.

    Raises `BadInput` where there is none, or both of the first.
    """
    candidates = [directory / f"{stem}.json", directory / f"{stem}.yaml"]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if len(found) > 1:
        raise BadInput(f"{found[0]} and {found[1].name}: both exist, keep one")
    if not found and _has_method(directory / TRAIN_CONFIG):
        found = [directory / TRAIN_CONFIG]
    if not found:
        raise BadInput(
            f"{candidates[0]} or {candidates[1].name}: the adapter's configuration is missing; write it ({FIELDS}), or "
            f"copy the {TRAIN_CONFIG} of the training run there"
        )
    return found[0]


def read_release_config(path: Path) -> ReleaseConfig:
    """A configuration file: this project's fields, or the release's own, alone or inside its ``train_config.json``.

    Raises `BadInput` naming the field that is missing, unknown, wrong, or not supported.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected the adapter's configuration ({FIELDS})")
    content = read_yaml(path) if path.suffix in (".yaml", ".yml") else read_json(path)
    if isinstance(content.get("method"), dict):
        content = content["method"]
    if "lora_cfg" in content:
        if not isinstance(content["lora_cfg"], dict):
            raise BadInput(f"{path}: lora_cfg holds no configuration; this run trained no adapter")
        content = content["lora_cfg"]
    if "layer_type" in content:
        content = _from_release(content, path)
    method = content.get("method")
    if not isinstance(method, str) or method not in _MODELS:
        raise BadInput(f"{path}: method must be one of {', '.join(_MODELS)} ({FIELDS})")
    return validate(_MODELS[method], content, path)


def _has_method(path: Path) -> bool:
    return path.is_file() and isinstance(read_json(path).get("method"), dict)


def _from_release(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The release's dataclasses (common/policies/lora*.py) in this project's fields."""
    fields = {name: value for name, value in content.items() if name not in _TRAINING}
    layer_type = fields.pop("layer_type")
    if layer_type not in _METHODS:
        raise BadInput(f"{path}: layer_type is {layer_type!r}, expected one of {', '.join(_METHODS)}")
    if fields.pop("fan_in_fan_out", False) is not False:
        raise BadInput(f"{path}: fan_in_fan_out is not supported; the policy's linears are stored (out, in)")
    if fields.pop("threshold_scheduling", None) is not None:
        raise BadInput(
            f"{path}: threshold_scheduling moved the threshold while it trained; set threshold_scheduling to null and "
            "target_threshold to the value the adapter is to run with"
        )
    quantize, code = fields.pop("quantize", False), fields.pop("quant_type", "fp4")
    compressed = fields.pop("compress_statistics", False)
    if quantize is not False:
        fields["four_bit"] = {"code": code, "compressed": compressed}
    if "target_threshold" in fields:
        fields["threshold"] = fields.pop("target_threshold")
    return {"method": _METHODS[layer_type], **fields}
