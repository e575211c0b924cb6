"""A linear with an input-conditional LoRA-SP branch (arXiv 2603.07404), kept exact and cheap in an exported graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_export.adapters.lora_sp import LoRASPBranch, LoRASPConfig, Semantics


class RoutedLinear(nn.Module):
    """y = W x + b + (alpha / r) · B ((A x) ⊙ keep(s) ⊙ s), with scores s = R x and keep(s) of `kept_directions`.

    x: (…, in) → y: (…, out), in the type of the weights; selection and gating are float32. Released semantics use the
    scores as they are; the paper's are non-negative, s = max(R x, 0).

    ``fused`` is [W; A; R] stacked, (out + 2·bank, in), so that the branch costs a few more rows of the linear's own
    matrix product and one thin product; ``up`` is (alpha / r) · B and b. Both are plain linears, which is what changes
    of precision look for.
    """

    def __init__(self, base: nn.Linear, branch: LoRASPBranch, config: LoRASPConfig) -> None:
        super().__init__()
        dtype = base.weight.dtype
        self.fused = _linear(torch.cat((base.weight, branch.A.to(dtype), branch.router.to(dtype))), None)
        self.up = _linear((branch.B.float() * config.scale).to(dtype), base.bias)
        self.out_features, self.in_features = base.out_features, base.in_features
        self.bank = config.bank
        self.threshold = config.threshold
        self.semantics: Semantics = config.semantics

    def forward(self, x: Tensor) -> Tensor:
        base, down, scores = self.fused(x).split((self.out_features, self.bank, self.bank), dim=-1)
        scores = scores.float()
        if self.semantics == "paper":
            scores = scores.relu()
        keep = kept_directions(scores, self.threshold, self.semantics)
        gated = down.float() * torch.where(keep, scores, 0.0)
        return base + self.up(gated.to(x.dtype))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def kept_directions(scores: Tensor, threshold: float, semantics: Semantics) -> Tensor:
    """Which directions each token uses: scores (…, bank), float32 → bool of the same shape.

    Scores are sorted by signed value, largest first; c_k is the sum of the first k squared. Released: the largest k
    with c_k <= threshold · c_bank, but at least 1. Paper: the smallest k with c_k >= threshold · c_bank. The first k
    are kept; of equal scores the one of lower index comes first.

    The order is not undone by a scatter: being kept is being above the k-th score, or equal to it while there is room.
    That keeps shapes static and does not depend on how a runtime's sort breaks ties.
    """
    ordered = scores.topk(scores.shape[-1], dim=-1).values
    energy = ordered.square().cumsum(-1)
    limit = threshold * energy[..., -1:]
    if semantics == "released":
        rank = (energy <= limit).int().sum(-1, keepdim=True).clamp(min=1)
    else:
        rank = (energy < limit).int().sum(-1, keepdim=True) + 1
    least = ordered.gather(-1, rank - 1)
    above, level = scores > least, scores == least
    room = rank - above.int().sum(-1, keepdim=True)
    return above | (level & (level.int().cumsum(-1) <= room))
