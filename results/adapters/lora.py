"""Plain LoRA (arXiv 2106.09685) on every linear of the language model and the expert."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from results.adapters.wrapping import adapted_linears, trained_parameters, wrap_linears
from vla_export.models.pi0 import Pi0

__all__ = ["LoRALinear", "LoRASettings", "active_ranks", "extra_loss", "trained_parameters", "wrap"]


@dataclass(frozen=True)
class LoRASettings:
    """The default rank trains as many parameters as LoRA-SP's default bank, on the sizes of the reference policy."""

    rank: int = 48
    alpha: int = 96

    @property
    def scale(self) -> float:
        """Factor of the update."""
        return self.alpha / self.rank


class LoRALinear(nn.Module):
    """y = (W + (alpha / r) B A) x + b, W and b frozen. A (r, in), B (out, r), which starts at zero."""

    def __init__(self, base: nn.Linear, settings: LoRASettings, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.settings = base, settings
        self.A = nn.Parameter(base.weight.new_empty(settings.rank, base.in_features))
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, settings.rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5), generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        # One product with the sum: the tokens of a batch are many more than the rows of W.
        return F.linear(x, self.base.weight + self.settings.scale * (self.B @ self.A), self.base.bias)


def wrap(model: Pi0, settings: LoRASettings, generator: torch.Generator) -> list[str]:
    """Freeze ``model`` and wrap its linears in place; returns their paths. The policy is at first what it was."""
    return wrap_linears(model, lambda linear: LoRALinear(linear, settings, generator))


def extra_loss(model: Pi0) -> Tensor:
    """Zero: LoRA has no loss of its own."""
    return next(model.parameters()).new_zeros(())


def active_ranks(model: Pi0) -> dict[str, float]:
    """Nothing is selected: the rank, for every linear."""
    return {path: float(m.settings.rank) for path, m in adapted_linears(model, LoRALinear)}
