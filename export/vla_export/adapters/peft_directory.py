"""A directory that the peft library saved: LoRA, rsLoRA, DoRA, PiSSA or OLoRA, in ``adapter_model.safetensors``.

peft computes what the adapter makes of each weight (`PeftLinear`). Read here is what peft would warn of, or pass over:
what its configuration asks for and which tensors are there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator
from torch import Tensor

from vla_export.adapters.adapter import Adapter, LinearUpdate, Rewrite
from vla_export.adapters.peft_linear import PeftLinear
from vla_export.adapters.tensor_checks import check_tensor
from vla_export.checkpoints.documents import read_json, validate
from vla_export.checkpoints.stored_tensors import StoredTensors
from vla_runtime.errors import BadInput

CONFIG = "adapter_config.json"
FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_A, _B = "lora_A.weight", "lora_B.weight"
_PART = re.compile(
    r"(?P<module>[^.]+(\.[^.]+)*)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_magnitude_vector)(?:\.weight)?"
)
# Fields that say how it was trained, where it came from, or which linears it is on, which the tensors' names say too.
_WITHOUT_EFFECT = frozenset(
    {
        "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "megatron_core",
        "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size",
        "ensure_weight_tying",
    }
)  # fmt: skip
# How A and B began, where the base stayed as it was: of no matter once they are read.
_BASE_KEPT = (True, False, "gaussian", "eva", "orthogonal")
# Where the base gave part of itself to A and B, which peft takes out of it again on loading, to the same numbers.
_BASE_TAKEN_FROM = {"pissa": "PiSSA", "olora": "OLoRA"}

_Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    peft_type: Literal["LORA"]
    r: PositiveInt
    lora_alpha: _Alpha
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, PositiveInt] = Field(default_factory=dict)
    alpha_pattern: dict[str, _Alpha] = Field(default_factory=dict)
    init_lora_weights: bool | str = True

    @field_validator("rank_pattern", "alpha_pattern")
    @classmethod
    def _patterns(cls, patterns: dict[str, float]) -> dict[str, float]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        return patterns

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of ``peft.LoraConfig`` that have an effect on what is read."""
        begun = self.init_lora_weights if self.init_lora_weights in _BASE_TAKEN_FROM else True
        return self.model_dump(exclude={"peft_type"}) | {"init_lora_weights": begun}

    @property
    def form(self) -> str:
        """The method in words."""
        parts = (
            _BASE_TAKEN_FROM.get(str(self.init_lora_weights)),
            "DoRA" if self.use_dora else None,
            "rsLoRA" if self.use_rslora else None,
        )
        return f"{' with '.join(filter(None, parts)) or 'LoRA'} of peft"


def read_peft(directory: Path) -> Adapter:
    """Read ``adapter_config.json`` and ``adapter_model.safetensors`` in ``directory``.

    Raises `BadInput` where either is missing or malformed, where the configuration asks for anything that would change
    the result and is not done here, where a tensor is missing, unknown, misshapen, not finite, or the whole adapter
    changes nothing, and where peft is not installed.
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
        parts = modules.setdefault(found["module"].removeprefix(_PREFIX), {})
        if found["part"] in parts:
            raise BadInput(f"adapter {path}: {name} is there twice, under two names; keep one")
        parts[found["part"]] = stored.read(name)
    updates = {module: _update(path, module, parts, config) for module, parts in modules.items()}
    if not any(parts[_A].any() and parts[_B].any() for parts in modules.values()):
        raise BadInput(f"adapter {path}: changes nothing, every A or every B is zero; give the trained adapter")
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
    if begun not in _BASE_KEPT and begun not in _BASE_TAKEN_FROM:
        raise BadInput(
            f"{path}: init_lora_weights is {begun!r}, which changes the base in a way that cannot be repeated exactly; "
            "save it with peft's path_initial_model_for_weight_conversion, which turns it into a plain LoRA"
        )
    return config


def _update(path: Path, module: str, parts: Mapping[str, Tensor], config: _Config) -> LinearUpdate:
    for part in (_A, _B):
        if part not in parts:
            raise BadInput(f"adapter {path}: {module}.{part} is missing; every linear needs {_A} and {_B}")
    A = check_tensor(path, f"{module}.{_A}", parts[_A], ("r", "in"))
    B = check_tensor(path, f"{module}.{_B}", parts[_B], ("out", "r"))
    linear = PeftLinear(path, module, config.settings, shape=(B.shape[0], A.shape[1]))
    expected = linear.saved_shapes()
    if missing := expected.keys() - parts.keys():
        raise BadInput(f"adapter {path}: {module}.{min(missing)} is missing; {config.form} has one")
    if unused := parts.keys() - expected.keys():
        raise BadInput(f"adapter {path}: {module}.{min(unused)} is not a part of {config.form}: {CONFIG} is another's")
    tensors = {
        part: check_tensor(path, f"{module}.{part}", parts[part], shape, f"which {CONFIG} asks for")
        for part, shape in expected.items()
    }
    return LinearUpdate(rewrite=Rewrite(linear.shape, partial(linear.merged, tensors)))
