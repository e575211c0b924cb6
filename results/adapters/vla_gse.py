"""VLA-GSE (arXiv 2605.06175) as its release trains it: experts cut from the base weight's own singular directions.

    y = W' x + b + Σ_g (1 / G) c_g B_g A_g x + Σ_{i in top-k of p} w_i c_i B_i A_i x

p = softmax(R x) over the specialised experts, w = p over the top k divided by their sum. With W = U diag(σ) Vᵀ the
experts take the largest singular directions in turn, the generalised first, and

    A_i = diag(√(σ / (ρ c_i))) V_iᵀ     B_i = U_i diag(√(σ / (ρ c_i)))     W' = W − Σ_i c_i B_i A_i     ρ = 10

so W' lacks a tenth of what each expert begins with; the router gives part of that back, and the policy starts close to
what it was, not at it. Scales: c_g = √(3 · in / r_g), and of the specialised experts, whose gradients they balance,
c_i = base · mean(tr) / tr_i with tr_i the sum of the expert's singular values (gse_peft/gse/layer.py of the release).

    loss = task + 0.01 · Σ over linears of S · Σ_i f_i P_i      f_i = share of tokens that use expert i, P = mean of p

The policy's own head, which projects state, actions and flow time, is trained in full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from results.adapters.wrapping import adapted_linears, wrap_linears
from vla_export.adapters.gating import largest
from vla_export.models.pi0 import Pi0

HEAD = ("state_proj", "action_in_proj", "action_out_proj", "action_time_mlp_in", "action_time_mlp_out")

_RHO = 10.0


@dataclass(frozen=True)
class VLAGSESettings:
    """r: directions of all experts of a linear together. A linear whose smaller side is below r is left unwrapped.

    base_scale: the mean that the specialised experts' scales are balanced about. balancing: weight of the loss. The
    default r trains as many parameters as LoRA-SP's default bank, on the sizes of the reference policy, head aside.
    """

    r: int = 54
    num_experts: int = 8
    num_generalized_experts: int = 1
    top_k: int = 2
    base_scale: float = 2.0
    balancing: float = 1e-2

    @property
    def ranks(self) -> tuple[int, ...]:
        """Of each expert; the first ones have one more where r cannot be shared evenly."""
        each, more = divmod(self.r, self.num_experts)
        return tuple(each + (n < more) for n in range(self.num_experts))


class VLAGSELinear(nn.Module):
    """The layer of the module's docstring; W' and b frozen. ``base`` is changed in place, from W to W'.

    A (r, in), B (out, r): the experts one after the other. scaling: c, (experts,). While it trains it gathers its
    loss over the calls since it was last taken.
    """

    scaling: Tensor
    expert: Tensor  # (experts, r): 1 where a direction is an expert's

    def __init__(self, base: nn.Linear, settings: VLAGSESettings, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.settings = base, settings
        ranks = torch.tensor(settings.ranks, device=base.weight.device)
        expert = F.one_hot(torch.arange(len(ranks), device=ranks.device).repeat_interleave(ranks)).T.to(base.weight)
        self.register_buffer("expert", expert, persistent=False)
        with torch.no_grad():
            U, S, V = torch.linalg.svd(base.weight, full_matrices=False)
            U, S, V = U[:, : settings.r], S[: settings.r], V[: settings.r]
            self.register_buffer("scaling", _scaling(expert @ S, ranks, base.in_features, settings))
            scale = self.scaling @ expert
            root = (S / (_RHO * scale)).sqrt()
            self.A, self.B = nn.Parameter(root[:, None] * V), nn.Parameter(U * root)
            base.weight -= (self.B * scale) @ self.A
        special = settings.num_experts - settings.num_generalized_experts
        self.router = nn.Linear(base.in_features, special, bias=False, device=base.weight.device)
        nn.init.kaiming_uniform_(self.router.weight, a=math.sqrt(5), generator=generator)
        self._gathered: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(end_dim=-2)
        general = self.settings.num_generalized_experts
        probable = self.router(tokens).softmax(-1)
        chosen = largest(probable.detach(), min(self.settings.top_k, probable.shape[-1]))
        weights = torch.where(chosen, probable, 0.0)
        weights = weights / weights.sum(-1, keepdim=True)
        gates = torch.cat((weights.new_full((len(tokens), general), 1.0 / max(general, 1)), weights), dim=-1)
        if self.training and torch.is_grad_enabled() and self.settings.balancing:
            self._gathered.append((chosen, probable))
        # A product, whose gradient takes a hundredth of the time of an index's.
        gated = F.linear(tokens, self.A) * (gates @ (self.scaling[:, None] * self.expert))
        y = torch.addmm(self.base(tokens), gated, self.B.T)
        return y.view(*x.shape[:-1], -1)

    def take_loss(self) -> Tensor:
        """S · Σ_i f_i P_i over the tokens of all calls since the last time; zero where there were none."""
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return self.A.new_zeros(())
        chosen, probable = (torch.cat(parts) for parts in zip(*gathered, strict=True))
        return probable.shape[-1] * (chosen.float().mean(0) @ probable.mean(0))


def _scaling(traces: Tensor, ranks: Tensor, in_features: int, settings: VLAGSESettings) -> Tensor:
    """c of each expert; traces: the sum of the singular values that it begins with."""
    special = torch.arange(len(ranks), device=traces.device) >= settings.num_generalized_experts
    balanced = settings.base_scale * traces[special].mean() / traces.clamp(min=1e-12)
    return torch.where(special, balanced, (3.0 * in_features / ranks).sqrt())


def wrap(model: Pi0, settings: VLAGSESettings, generator: torch.Generator) -> list[str]:
    """Freeze ``model``, wrap its linears in place, let the head train; returns the paths of the wrapped linears."""

    def adapted(linear: nn.Linear) -> VLAGSELinear | None:
        fits = min(linear.in_features, linear.out_features) >= settings.r
        return VLAGSELinear(linear, settings, generator) if fits else None

    wrapped = wrap_linears(model, adapted)
    for name in HEAD:
        model.get_submodule(name).requires_grad_(True)
    return wrapped


def extra_loss(model: Pi0) -> Tensor:
    """The balancing loss, weighted, of every forward pass since this was last asked for."""
    linears = [linear for _, linear in adapted_linears(model, VLAGSELinear)]
    return linears[0].settings.balancing * torch.stack([linear.take_loss() for linear in linears]).sum()


def active_ranks(model: Pi0) -> dict[str, float]:
    """Directions of the generalised and of k average specialised experts: every token uses so many."""
    return {
        path: sum(s.ranks[: s.num_generalized_experts])
        + s.top_k * sum(s.ranks[s.num_generalized_experts :]) / (s.num_experts - s.num_generalized_experts)
        for path, s in ((path, linear.settings) for path, linear in adapted_linears(model, VLAGSELinear))
    }


def trained_parameters(model: Pi0) -> int:
    """How many numbers training changes in experts and routers; the head's are in `head_parameters`."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad) - head_parameters(model)


def head_parameters(model: Pi0) -> int:
    """How many numbers the policy's own head has, all of them trained."""
    return sum(parameter.numel() for name in HEAD for parameter in model.get_submodule(name).parameters())
