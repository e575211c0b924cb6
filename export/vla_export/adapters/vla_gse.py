"""VLA-GSE (arXiv 2605.06175): ``steps_N_pytorch_model.pt``, a whole policy with generalised and specialised experts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from vla_export.adapters.adapter import Adapter, Branch, LinearUpdate, LowRank
from vla_export.adapters.gating import ExpertGating
from vla_export.adapters.pickled_tensors import PickledTensors
from vla_export.adapters.tensor_checks import check_effect, check_tensor
from vla_export.checkpoints.documents import read_yaml, validate
from vla_runtime.errors import BadInput

_PEFT = "base_model.model."
_EXPERT = r"moe_layer\.default\.(?:generalized|specialized)_experts\.\d+\.(?:lora_A\.weight|lora_B\.weight|scaling)"
_PART = re.compile(
    r"(?P<module>.+)\.(?P<part>base_layer\.(?:weight|bias)|lora_[AB]\.default\.\d+\.weight|"
    rf"lora_gating\.default\.weight|moe_layer\.default\.gate\.weight|{_EXPERT})"
)
_MARKS = (".base_layer.", ".lora_", ".moe_layer.")


class _Method(BaseModel):
    """``trainer.gse`` of the run's config.yaml, as far as inference needs it; the rest is told by the tensors."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    top_k: int = Field(gt=0)
    num_experts: int | None = None
    num_generalized_experts: int | None = None


class _Trainer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    gse: _Method


class _Run(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    trainer: _Trainer


def is_vla_gse(names: Iterable[str]) -> bool:
    """Whether these are the tensors of a policy with VLA-GSE's experts in it."""
    return any(".moe_layer.default." in name for name in names)


def read_vla_gse(stored: PickledTensors, config: Path | None = None) -> Adapter:
    """The experts of a policy, their base weights, and the plain policy as `Adapter.policy`.

    config: the run's ``config.yaml``, by default the one two levels up, with ``dataset_statistics.json`` beside it.

    Raises `BadInput` where either is missing, where the two copies of an expert differ, and where a tensor is missing,
    unknown, misshapen, not finite, or all experts do nothing.
    """
    path = stored.path
    run = config or path.absolute().parents[1] / "config.yaml"
    statistics = run.parent / "dataset_statistics.json"
    for file, what in ((run, "the training run's configuration"), (statistics, "the training set's statistics")):
        if not file.is_file():
            raise BadInput(f"adapter {path}: {file} is missing, {what}; keep the run's directory as training left it")
    method = validate(_Run, read_yaml(run), run).trainer.gse
    plain: dict[str, str] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name in stored:
        found = _PART.fullmatch(name)
        if found is None:
            if any(mark in name for mark in _MARKS):
                raise BadInput(f"adapter {path}: unknown tensor {name}; it looks like VLA-GSE's and is not known")
            plain[_without_peft(name)] = name
        elif found["part"].startswith("base_layer."):
            plain[_without_peft(f"{found['module']}.{found['part'].removeprefix('base_layer.')}")] = name
            parts.setdefault(found["module"], {})[found["part"]] = stored.read(name)
        else:
            parts.setdefault(found["module"], {})[found["part"]] = stored.read(name)
    updates = {
        _without_peft(module): _Experts(path, module, tensors, method).update() for module, tensors in parts.items()
    }
    check_effect(path, updates.values())
    policy = PickledTensors.of(path, {ours: stored.read(theirs) for ours, theirs in plain.items()})
    settings = {"method": "vla_gse", "top_k": str(method.top_k)}
    return Adapter(path, "VLA-GSE", updates, settings, policy=policy, statistics=statistics)


def _without_peft(name: str) -> str:
    return name.replace(_PEFT, "", 1)


class _Experts:
    """The experts of one linear: G generalised ones, always on, then S specialised ones behind a router.

    y = W x + b + Σ_g (1/G) c_g B_g A_g x + Σ_{i in top-k} w_i c_i B_i A_i x, with w the router's softmax over the
    specialised ones, renormalised over the top k. The scales c are those of the file: training sets them in several
    ways.
    """

    def __init__(self, path: Path, module: str, parts: Mapping[str, Tensor], method: _Method) -> None:
        self.path, self.module, self.parts, self.method = path, module, dict(parts), method

    def update(self) -> LinearUpdate:
        general, special = self._count("generalized"), self._count("specialized")
        self._check_counts(general, special)
        weight = self._take("base_layer.weight", "out", "in")
        self.parts.pop("base_layer.bias", None)
        in_features = weight.shape[1]
        experts = [self._expert(n, n - general if n >= general else None, weight) for n in range(general + special)]
        router = self._take("lora_gating.default.weight", special, in_features)
        self._check_copy("lora_gating.default.weight", router, "moe_layer.default.gate.weight")
        if self.parts:
            raise BadInput(f"adapter {self.path}: {self.module}.{min(self.parts)} belongs to no expert")
        fixed = tuple(LowRank(A, B / general) for A, B in experts[:general])
        ranks = [len(A) for A, _ in experts[general:]]
        branch = Branch(
            torch.cat([A for A, _ in experts[general:]]),
            torch.cat([B for _, B in experts[general:]], dim=1),
            router,
            ExpertGating(ranks, min(self.method.top_k, special)),
        )
        return LinearUpdate(fixed, branch, weight)

    def _count(self, kind: str) -> int:
        prefix = f"moe_layer.default.{kind}_experts."
        return len({part.removeprefix(prefix).partition(".")[0] for part in self.parts if part.startswith(prefix)})

    def _check_counts(self, general: int, special: int) -> None:
        if not special:
            raise BadInput(f"adapter {self.path}: {self.module} has no specialised experts; expected at least one")
        for field, wanted, found in (
            ("num_experts", self.method.num_experts, general + special),
            ("num_generalized_experts", self.method.num_generalized_experts, general),
        ):
            if wanted is not None and wanted != found:
                raise BadInput(
                    f"adapter {self.path}: {self.module} has {found} experts where config.yaml's trainer.gse.{field} "
                    f"says {wanted}; the configuration is another run's"
                )

    def _expert(self, index: int, special: int | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A (r, in) and B (out, r) with its scale in it, float32, of one expert."""
        A = self._take(f"lora_A.default.{index}.weight", "r", weight.shape[1])
        B = self._take(f"lora_B.default.{index}.weight", weight.shape[0], len(A))
        kind = f"generalized_experts.{index}" if special is None else f"specialized_experts.{special}"
        copy = f"moe_layer.default.{kind}"
        self._check_copy(f"lora_A.default.{index}.weight", A, f"{copy}.lora_A.weight")
        self._check_copy(f"lora_B.default.{index}.weight", B, f"{copy}.lora_B.weight")
        return A, B.float() * float(self._take(f"{copy}.scaling"))

    def _take(self, part: str, *shape: int | str) -> Tensor:
        if part not in self.parts:
            raise BadInput(f"adapter {self.path}: {self.module}.{part} is missing; the file is not a whole policy")
        return check_tensor(self.path, f"{self.module}.{part}", self.parts.pop(part), shape)

    def _check_copy(self, name: str, tensor: Tensor, copy: str) -> None:
        if not torch.equal(tensor, self._take(copy, *tensor.shape)):
            raise BadInput(
                f"adapter {self.path}: {self.module}.{name} and its copy {copy} differ; the file was changed since"
            )
