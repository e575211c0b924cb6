"""The adapters of LoRA-SP's release: what its tensors of one linear do to that linear."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vla_export.adapters.adapter import Branch, LinearUpdate, LowRank
from vla_export.adapters.gating import EnergyGating, Gating, ProjectedGating, Routing, release_experts
from vla_export.adapters.release_config import AdaLoRAConfig, LoRAConfig, LoRAMoEConfig, LoRASPConfig, ReleaseConfig
from vla_export.adapters.tensor_checks import check_tensor
from vla_runtime.errors import BadInput

# Training's own bookkeeping, which a wrapped policy stores beside each linear.
BOOKKEEPING = {
    "router_weight_ma": "a moving average of the router, for training",
    "router_logit_ma": "a moving average of the scores, for training",
    "id_Sigma": "the identity matrix of a training loss",
    "rank_num": "the rank at which AdaLoRA's training began",
}
_WIDE, _NARROW = "in", "out"


def tensor_names(config: ReleaseConfig) -> tuple[str, ...]:
    """What follows a linear's path in the names of its tensors."""
    if isinstance(config, LoRASPConfig):
        return ("A", "B", "router.weight", "router_proj") if config.router_projection else ("A", "B", "router.weight")
    if isinstance(config, LoRAMoEConfig):
        return ("A", "B", "router.weight")
    return ("A", "B", "E") if isinstance(config, AdaLoRAConfig) else ("A", "B")


def form_of(config: ReleaseConfig) -> str:
    """The method in words."""
    if isinstance(config, LoRASPConfig):
        projected = f", router_projection ({config.routing})" if config.router_projection else ""
        return f"LoRA-SP with the {config.semantics} semantics{projected}"
    if isinstance(config, LoRAMoEConfig):
        return f"LoRA mixture of experts ({config.routing}) of LoRA-SP's release"
    return "AdaLoRA of LoRA-SP's release" if isinstance(config, AdaLoRAConfig) else "LoRA of LoRA-SP's release"


def update_of(path: Path, module: str, parts: Mapping[str, Tensor], config: ReleaseConfig) -> LinearUpdate:
    """parts: the tensors of one linear by `tensor_names`.

    Raises `BadInput` for one that is missing, or of a shape or values that its configuration does not have.
    """
    missing = [f"{module}.{part}" for part in tensor_names(config) if part not in parts]
    if missing:
        needed = ", ".join(tensor_names(config))
        raise BadInput(
            f"adapter {path}: {' and '.join(missing)} missing; every linear needs {needed} ({config.method})"
        )
    checked = _Checked(path, module, parts, config)
    if isinstance(config, LoRASPConfig):
        return LinearUpdate(branch=_lora_sp(checked, config), four_bit=config.four_bit)
    if isinstance(config, LoRAMoEConfig):
        return LinearUpdate(branch=_mixture(checked, config), four_bit=config.four_bit)
    return LinearUpdate(fixed=(_low_rank(checked, config),), four_bit=config.four_bit)


class _Checked:
    """The tensors of one linear, each checked against the shape it must have as it is taken."""

    def __init__(self, path: Path, module: str, parts: Mapping[str, Tensor], config: ReleaseConfig) -> None:
        self.path, self.module, self.parts = path, module, parts
        experts = getattr(config, "num_experts", None)
        self.why = f"as r {config.r}{'' if experts is None else f' and num_experts {experts}'} make it"
        if isinstance(config, LoRAConfig):
            self.why += " (the release's core 'lora' ignores its configuration and trains r 8, alpha 16)"

    def __call__(self, part: str, *shape: int | str) -> Tensor:
        return check_tensor(self.path, f"{self.module}.{part}", self.parts[part], shape, self.why)


def _lora_sp(checked: _Checked, config: LoRASPConfig) -> Branch:
    """y = W x + (alpha / r) · B ((A x) ⊙ keep(s) ⊙ s), s = R x; or s = P gates(R x) (lora_msp.py of the release)."""
    A, B = checked("A", config.bank, _WIDE), checked("B", _NARROW, config.bank)
    gating: Gating = EnergyGating(config.bank, config.threshold, config.semantics)
    if config.router_projection:
        projection = checked("router_proj", config.bank, config.num_experts)
        experts = release_experts(config.num_experts, config.r, _possible(checked, config))
        gating = ProjectedGating(experts, projection, EnergyGating(config.bank, config.threshold, config.semantics))
    router = checked("router.weight", gating.scores, A.shape[1])
    return Branch(A, config.scale * B.float(), router, gating)


def _mixture(checked: _Checked, config: LoRAMoEConfig) -> Branch:
    """y = W x + Σ_e gate_e · (alpha / r) · B_e A_e x (lora_moe.py of the release). A (E, r, in), B (E, out, r)."""
    A = checked("A", config.num_experts, config.r, _WIDE)
    B = checked("B", config.num_experts, _NARROW, config.r)
    router = checked("router.weight", config.num_experts, A.shape[2])
    stacked = B.float().permute(1, 0, 2).reshape(B.shape[1], -1)
    gating = release_experts(config.num_experts, config.r, _possible(checked, config))
    return Branch(A.reshape(-1, A.shape[2]), config.scale * stacked, router, gating)


def _possible(checked: _Checked, config: LoRASPConfig | LoRAMoEConfig) -> Routing:
    if config.routing == "top2" and config.num_experts < 2:
        raise BadInput(f"adapter {checked.path}: routing top2 needs two experts, num_experts is {config.num_experts}")
    return config.routing


def _low_rank(checked: _Checked, config: LoRAConfig | AdaLoRAConfig) -> LowRank:
    """y = W x + (alpha / r) · B A x; AdaLoRA: B diag(E) A, its singular values E (r, 1) (lora.py, lora_ada.py)."""
    A, B = checked("A", config.r, _WIDE), checked("B", _NARROW, config.r)
    scaled = config.scale * B.float()
    if isinstance(config, AdaLoRAConfig):
        scaled = scaled * checked("E", config.r, 1).float().T
    return LowRank(A, scaled)
