"""A directory that the peft library saved: LoRA, rsLoRA, DoRA or PiSSA, in ``adapter_model.safetensors``.

The formulas are peft's own (``peft/tuners/lora``). They are evaluated here and not by peft, because peft adds an update
in the type of the weights it adds to, where a float16 policy needs it computed in float32 and rounded once, and because
it brings transformers and accelerate for four formulas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vla_export.adapters.adapter import Adapter, LinearUpdate, LowRank
from vla_export.adapters.tensor_checks import check_effect, check_tensor
from vla_export.checkpoints.documents import read_json, validate
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_runtime.errors import BadInput

CONFIG = "adapter_config.json"
FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_magnitude_vector)(?:\.weight)?")
# Fields that say how it was trained, where it came from, or which linears it is on, which the tensors' names say too.
_WITHOUT_EFFECT = frozenset(
    {
        "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "megatron_core",
        "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size",
        "rank_pattern", "ensure_weight_tying",
    }
)  # fmt: skip
# How A and B began, where the base stayed as it was.
_INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal")
_PISSA = "pissa"


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    peft_type: Literal["LORA"]
    r: int = Field(gt=0)
    lora_alpha: float = Field(allow_inf_nan=False)
    use_rslora: bool = False
    use_dora: bool = False
    alpha_pattern: dict[str, float] = Field(default_factory=dict)
    init_lora_weights: bool | str = True

    def scale(self, module: str, rank: int) -> float:
        """alpha / r, or alpha / sqrt(r) (rsLoRA, arXiv 2312.03732); a pattern's alpha where one matches the module."""
        alpha = next((a for p, a in self.alpha_pattern.items() if re.match(rf"(.*\.)?({p})$", module)), self.lora_alpha)
        return alpha / (rank**0.5 if self.use_rslora else rank)

    @property
    def form(self) -> str:
        """The method in words."""
        parts = [
            name
            for name, used in (
                ("PiSSA", self.init_lora_weights == _PISSA),
                ("DoRA", self.use_dora),
                ("rsLoRA", self.use_rslora),
            )
            if used
        ]
        return f"{' with '.join(parts) or 'LoRA'} of peft"


def read_peft(directory: Path) -> Adapter:
    """Read ``adapter_config.json`` and ``adapter_model.safetensors`` in ``directory``.

    Raises `BadInput` where either is missing or malformed, where the configuration asks for anything that would change
    the result and is not done here, and where a tensor is missing, unknown, misshapen, not finite, or the whole adapter
    changes nothing.
    """
    path = directory / FILE
    if not path.is_file():
        raise BadInput(f"{path} is missing; peft's save_pretrained writes it (a .bin is a pickle: save it again)")
    config = _read_config(directory / CONFIG)
    stored = StoredTensors.in_file(path)
    modules: dict[str, dict[str, Tensor]] = {}
    for name in stored:
        found = _PART.fullmatch(name)
        if found is None:
            raise BadInput(f"adapter {path}: unknown tensor {name}; only adapters of linears are supported")
        modules.setdefault(found["module"].removeprefix(_PREFIX), {})[found["part"]] = stored.read(name)
    updates = {module: _update(path, module, parts, config) for module, parts in modules.items()}
    check_effect(path, updates.values())
    settings = {name: str(value) for name, value in config.model_dump().items() if value}
    return Adapter(path, config.form, updates, settings)


def _read_config(path: Path) -> _Config:
    if not path.is_file():
        raise BadInput(f"{path} is missing; peft's save_pretrained writes it beside {FILE}")
    content = {name: value for name, value in read_json(path).items() if name not in _WITHOUT_EFFECT}
    wanted: dict[str, Any] = {}
    for name, value in content.items():
        if name in _Config.model_fields:
            wanted[name] = value
        elif value and not (name == "bias" and value == "none"):
            raise BadInput(f"{path}: {name} is {value!r}, which changes the result and is not supported")
    config = validate(_Config, wanted, path)
    begun = config.init_lora_weights
    if begun not in _INITIALISATIONS and begun != _PISSA:
        raise BadInput(
            f"{path}: init_lora_weights is {begun!r}, which changes the base in a way that cannot be repeated exactly; "
            "save it with peft's path_initial_model_for_weight_conversion, which turns it into a plain LoRA"
        )
    return config


def _update(path: Path, module: str, parts: Mapping[str, Tensor], config: _Config) -> LinearUpdate:
    needed = ["lora_A.weight", "lora_B.weight", *(["lora_magnitude_vector"] if config.use_dora else [])]
    for part in needed:
        if part not in parts:
            raise BadInput(f"adapter {path}: {module}.{part} is missing; every linear needs {', '.join(needed)}")
    if unused := parts.keys() - set(needed):
        raise BadInput(f"adapter {path}: {module}.{min(unused)} is not a part of {config.form}: {CONFIG} is another's")
    A = check_tensor(path, f"{module}.lora_A.weight", parts["lora_A.weight"], ("r", "in"))
    B = check_tensor(path, f"{module}.lora_B.weight", parts["lora_B.weight"], ("out", len(A)))
    magnitude = None
    if config.use_dora:
        name = f"{module}.lora_magnitude_vector"
        magnitude = check_tensor(path, name, parts["lora_magnitude_vector"], (len(B),)).float()
    return LinearUpdate(
        fixed=(LowRank(A, config.scale(module, len(A)) * B.float()),),
        principal=len(A) if config.init_lora_weights == _PISSA else 0,
        magnitude=magnitude,
    )
