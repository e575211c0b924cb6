"""LoRA-SP (arXiv 2603.07404) as its release trains it: a router picks, per token, directions of one bank.

    s = R x
    y = W x + b + (alpha / r) B ((A x) ⊙ keep(s) ⊙ s)

keep: the scores sorted by signed value, largest first, as long as the sum of their squares is at most η of all squares;
the first always. The selection itself has no gradient; the kept scores have, so the router learns how much of a
direction is used and the spectral loss which ones are.

    loss = task + 0.01 · spectral + 0.001 · (balance + z)

each of the three the mean over the wrapped linears. With the sums over all tokens of a batch:

    spectral = 1 − Σ kept s² / Σ s²
    balance  = bank · Σ_j f_j p_j      p = mean of softmax(keep ⊙ s), f_j = share of tokens whose largest is j
    z        = mean of log(1 + clamp(logsumexp(s), 0, 10))

(the release's common/policies/lora_msp.py; weights as in the paper). None of them is cut off from what the linear
reads, so their gradient reaches the router and, through x, the adapters before it; not A and B of the same linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from results.adapters.wrapping import adapted_linears, trained_parameters, wrap_linears
from vla_export.models.pi0 import Pi0

__all__ = ["LoRASPLinear", "LoRASPSettings", "active_ranks", "extra_loss", "kept", "trained_parameters", "wrap"]

# The release's range begins at −1, where the logarithm below is infinite.
_Z_RANGE = (0.0, 10.0)


@dataclass(frozen=True)
class LoRASPSettings:
    """r, alpha, num_experts: the bank has r · num_experts directions, its update the factor alpha / r.

    threshold: η. spectral, router: weights of the spectral loss and of balance and z; a loss of weight 0 is not
    computed.
    """

    r: int = 8
    alpha: int = 16
    num_experts: int = 4
    threshold: float = 0.9
    spectral: float = 1e-2
    router: float = 1e-3

    @property
    def bank(self) -> int:
        """How many directions there are to choose from."""
        return self.r * self.num_experts

    @property
    def scale(self) -> float:
        """Factor of the update."""
        return self.alpha / self.r


class LoRASPLinear(nn.Module):
    """The layer of the module's docstring, W and b frozen. A (bank, in), B (out, bank), R (bank, in).

    While it trains it gathers its losses over the calls since they were last taken. active: mean number of directions
    kept per token in the last call, a tensor of one number.
    """

    active: Tensor

    def __init__(self, base: nn.Linear, settings: LoRASPSettings, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.settings = base, settings
        self.A = nn.Parameter(base.weight.new_empty(settings.bank, base.in_features))
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, settings.bank))
        self.router = nn.Linear(base.in_features, settings.bank, bias=False, device=base.weight.device)
        for drawn in (self.A, self.router.weight):
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
        self.register_buffer("active", base.weight.new_zeros(()), persistent=False)
        self._gathered: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(end_dim=-2)
        both = F.linear(tokens, torch.cat((self.A, self.router.weight)))
        down, scores = torch.split(both, self.settings.bank, dim=-1)
        chosen = torch.where(kept(scores, self.settings.threshold), scores, 0.0)
        self.active = chosen.detach().count_nonzero() / len(tokens)
        if self.training and torch.is_grad_enabled():
            self._gather(scores, chosen)
        y = torch.addmm(self.base(tokens), down * chosen, self.settings.scale * self.B.T)
        return y.view(*x.shape[:-1], -1)

    def take_loss(self) -> Tensor:
        """The weighted losses of all calls since the last time; zero where there were none."""
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return self.A.new_zeros(())
        sums = {name: torch.stack([call[name] for call in gathered]).sum(0) for name in gathered[0]}
        loss = self.A.new_zeros(())
        if self.settings.spectral:
            loss = loss + self.settings.spectral * (1 - sums["kept"] / sums["all"].clamp(min=1e-9))
        if self.settings.router:
            tokens = sums["largest"].sum()
            balance = self.settings.bank * (sums["largest"] / tokens) @ (sums["gates"] / tokens)
            loss = loss + self.settings.router * (balance + sums["z"] / tokens)
        return loss

    def _gather(self, scores: Tensor, chosen: Tensor) -> None:
        """scores, and those of them that are kept, the others zero: (tokens, bank)."""
        sums: dict[str, Tensor] = {}
        if self.settings.spectral:
            sums |= {"kept": chosen.square().sum(), "all": scores.square().sum()}
        if self.settings.router:
            gates = chosen.softmax(-1)
            largest = torch.bincount(gates.argmax(-1), minlength=self.settings.bank)
            z = torch.logsumexp(scores, dim=-1).clamp(*_Z_RANGE).log1p().sum()
            sums |= {"gates": gates.sum(0), "largest": largest.to(gates.dtype), "z": z}
        if sums:
            self._gathered.append(sums)


@torch.no_grad()
def kept(scores: Tensor, threshold: float) -> Tensor:
    """Which scores (…, bank) of each token are kept, as the module's docstring says; bool of the same shape."""
    # Of rows this short numpy sorts twenty times as many in a second as torch does.
    ascending = torch.from_numpy(np.sort(scores.cpu().numpy(), axis=-1)).to(scores.device)
    ordered = ascending.flip(-1)
    energy = ordered.square().cumsum(-1)
    within = energy <= threshold * energy[..., -1:]
    within[..., 0] = True
    least = torch.where(within, ordered, torch.inf).amin(-1, keepdim=True)
    return scores >= least


def wrap(model: Pi0, settings: LoRASPSettings, generator: torch.Generator) -> list[str]:
    """Freeze ``model`` and wrap its linears in place; returns their paths. The policy is at first what it was."""
    return wrap_linears(model, lambda linear: LoRASPLinear(linear, settings, generator))


def extra_loss(model: Pi0) -> Tensor:
    """The losses of the module's docstring, weighted; of every forward pass since this was last asked for."""
    return torch.stack([linear.take_loss() for _, linear in adapted_linears(model, LoRASPLinear)]).mean()


def active_ranks(model: Pi0) -> dict[str, float]:
    """Mean number of directions kept per token, by path of the linear, in the last call of each."""
    return {path: float(linear.active) for path, linear in adapted_linears(model, LoRASPLinear)}
