"""A LoRA-SP adapter for the reference policy: random, small, and different for every input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_export.models.blocks import Stack
from vla_export.models.pi0 import Pi0

CONFIGURATION: dict[str, object] = {
    "method": "lora_sp",
    "r": 8,
    "alpha": 16,
    "num_experts": 4,
    "threshold": 0.9,
    "semantics": "released",
}
BANK = 8 * 4  # r * num_experts directions, all of them in one bank
STRENGTH = 0.01


def reference_adapter(model: Pi0, generator: torch.Generator) -> dict[str, Tensor]:
    """A, B and router of every linear of the language model and the expert; keys start with our name of the linear.

    Shapes: A (bank, in), B (out, bank), router.weight (bank, in).
    """
    tensors: dict[str, Tensor] = {}
    for stack in (model.language, model.expert):
        for path, linear in _linears(stack):
            wide, narrow = linear.in_features, linear.out_features
            tensors[f"{path}.A"] = torch.randn(BANK, wide, generator=generator) / wide**0.5
            tensors[f"{path}.B"] = STRENGTH * torch.randn(narrow, BANK, generator=generator)
            tensors[f"{path}.router.weight"] = torch.randn(BANK, wide, generator=generator) / wide**0.5
    return tensors


def _linears(stack: Stack) -> list[tuple[str, nn.Linear]]:
    return [(f"{stack.name}.{path}", m) for path, m in stack.named_modules() if isinstance(m, nn.Linear)]
