"""How a router's scores become the gates of a branch's directions: one module per rule, static shapes only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_export.models.linears import through

Semantics = Literal["released", "paper"]
Routing = Literal["weighted", "top1", "top2"]

# What LoRA-SP's release adds to the sum of the two gates it divides by.
_TOP2_EPSILON = 1e-9


class Gating(nn.Module, ABC):
    """Scores (…, scores) of the router, float32 → gates (…, directions), float32."""

    @property
    @abstractmethod
    def scores(self) -> int:
        """How many scores the router gives."""

    @property
    @abstractmethod
    def directions(self) -> int:
        """How many directions are gated."""

    @abstractmethod
    def forward(self, scores: Tensor) -> Tensor: ...

    @abstractmethod
    def cut(self, selected: Tensor, most: int) -> tuple[Gating, Tensor]:
        """The same rule with only the ``selected`` directions left to gate, and the order its scores come in.

        Every score still takes part in the rule, so that of a token which selects none but those directions, and not
        more than ``most``, all gates are what they were. selected: (directions,), bool. Order: (scores,), the old index
        of each new score.
        """


class EnergyGating(Gating):
    """LoRA-SP (arXiv 2603.07404): a score gates its direction where it is among the kept; see `last_kept`.

    Released semantics use the scores as they are; the paper's are non-negative, max(score, 0). silent: scores after
    those of the directions, which take part in the selection and gate nothing. most: how many may be kept, None for any
    number.
    """

    def __init__(
        self, directions: int, threshold: float, semantics: Semantics, silent: int = 0, most: int | None = None
    ) -> None:
        super().__init__()
        self._directions, self.silent = directions, silent
        self.threshold = threshold
        self.semantics: Semantics = semantics
        self.most = self.scores if most is None else most

    @property
    def scores(self) -> int:
        return self._directions + self.silent

    @property
    def directions(self) -> int:
        return self._directions

    def kept(self, scores: Tensor) -> Tensor:
        """Which scores, the silent among them, are kept; (…, scores), bool."""
        return kept_directions(self._used(scores), self.threshold, self.semantics, self.most)

    def forward(self, scores: Tensor) -> Tensor:
        used = self._used(scores)
        edge = last_kept(used, self.threshold, self.semantics, self.most)
        gated = used[..., : self._directions] if self.silent else used
        return torch.where(down_to(gated, *edge), gated, 0.0)

    def cut(self, selected: Tensor, most: int) -> tuple[EnergyGating, Tensor]:
        kept, silenced = selected.nonzero().flatten(), (~selected).nonzero().flatten()
        earlier = torch.arange(self._directions, self.scores, device=selected.device)
        silent = self.scores - len(kept)
        gating = EnergyGating(len(kept), self.threshold, self.semantics, silent, min(most, self.most))
        return gating, torch.cat((kept, silenced, earlier))

    def _used(self, scores: Tensor) -> Tensor:
        return scores.relu() if self.semantics == "paper" else scores


class ExpertGating(Gating):
    """A softmax over experts; an expert's gate is that of each of its directions, one after the other.

    ranks: directions of each expert. top_k: how many experts stay, None for all; their gates are divided by their sum
    plus ``epsilon``, or with ``one_hot`` become 1, as LoRA-SP's release does for the largest alone. VLA-GSE
    (arXiv 2605.06175): top_k, epsilon 0.
    """

    expert_of: Tensor  # (directions,), int64

    def __init__(self, ranks: Sequence[int], top_k: int | None, *, one_hot: bool = False, epsilon: float = 0.0) -> None:
        super().__init__()
        self.ranks = tuple(ranks)
        self.top_k, self.one_hot, self.epsilon = top_k, one_hot, epsilon
        expert_of = torch.arange(len(self.ranks)).repeat_interleave(torch.tensor(self.ranks))
        self.register_buffer("expert_of", expert_of, persistent=False)

    @property
    def scores(self) -> int:
        return len(self.ranks)

    @property
    def directions(self) -> int:
        return sum(self.ranks)

    def experts(self, scores: Tensor) -> Tensor:
        """One gate per expert, (…, experts)."""
        gates = scores.softmax(-1)
        if self.top_k is None:
            return gates
        chosen = largest(gates, self.top_k)
        if self.one_hot:
            return chosen.to(gates.dtype)
        kept = torch.where(chosen, gates, 0.0)
        return kept / (kept.sum(-1, keepdim=True) + self.epsilon)

    def forward(self, scores: Tensor) -> Tensor:
        return self.experts(scores)[..., self.expert_of]

    def cut(self, selected: Tensor, most: int) -> tuple[ExpertGating, Tensor]:
        ranks = torch.bincount(self.expert_of[selected], minlength=len(self.ranks)).tolist()
        gating = ExpertGating(ranks, self.top_k, one_hot=self.one_hot, epsilon=self.epsilon)
        return gating, torch.arange(self.scores, device=selected.device)


class ProjectedGating(Gating):
    """LoRA-SP's ``router_projection``: gates of experts, projected to scores of directions, then selected by energy.

    projection: (directions, experts), the release's ``router_proj``.
    """

    def __init__(self, experts: ExpertGating, projection: Tensor, selection: EnergyGating) -> None:
        super().__init__()
        self.experts, self.selection = experts, selection
        # A linear, because that is what changes of precision look for.
        self.projection = nn.Linear(projection.shape[1], projection.shape[0], bias=False, device="meta")
        self.projection.weight = nn.Parameter(projection.detach(), requires_grad=False)

    @property
    def scores(self) -> int:
        return self.experts.scores

    @property
    def directions(self) -> int:
        return self.selection.directions

    def forward(self, scores: Tensor) -> Tensor:
        return self.selection(through(self.projection, self.experts.experts(scores)))

    def cut(self, selected: Tensor, most: int) -> tuple[ProjectedGating, Tensor]:
        selection, order = self.selection.cut(selected, most)
        gating = ProjectedGating(self.experts, self.projection.weight[order], selection)
        return gating, torch.arange(self.scores, device=selected.device)


def release_experts(num_experts: int, r: int, routing: Routing) -> ExpertGating:
    """The mixture of experts of LoRA-SP's release: softmax over all, the largest alone as 1, or two renormalised."""
    ranks = [r] * num_experts
    if routing == "top1":
        return ExpertGating(ranks, 1, one_hot=True)
    return ExpertGating(ranks, 2, epsilon=_TOP2_EPSILON) if routing == "top2" else ExpertGating(ranks, None)


def largest(values: Tensor, count: int) -> Tensor:
    """Which ``count`` entries of the last axis are largest; of equal ones the first. Bool, shaped as values."""
    ordered = values.topk(count, dim=-1).values
    least = ordered[..., -1:]
    return down_to(values, least, count - _count(ordered > least))


def down_to(values: Tensor, least: Tensor, room: Tensor) -> Tensor:
    """Entries above ``least``, and of those equal to it the first ``room``, a count in float32; both (…, 1).

    The order is not undone by a scatter: shapes stay static, and nothing depends on how a runtime's sort breaks ties.
    """
    level = values == least
    return (values > least) | (level & (level.float().cumsum(-1) <= room))


def kept_directions(scores: Tensor, threshold: float, semantics: Semantics, most: int | None = None) -> Tensor:
    """Which directions each token uses: scores (…, bank), float32 → bool of the same shape; see `last_kept`."""
    most = scores.shape[-1] if most is None else most
    return down_to(scores, *last_kept(scores, threshold, semantics, most))


def last_kept(scores: Tensor, threshold: float, semantics: Semantics, most: int) -> tuple[Tensor, Tensor]:
    """The last score that each token keeps, and how many of those equal to it: scores (…, bank) → two of (…, 1).

    Scores are sorted by signed value, largest first; c_k is the sum of the first k squared. Released: the largest k
    with c_k <= threshold · c_bank, but at least 1. Paper: the smallest k with c_k >= threshold · c_bank. The first k
    are kept, at ``most`` so many, which is as far as they are sorted; of equal scores the one of lower index comes
    first.
    """
    ordered = scores.topk(most, dim=-1).values
    energy = ordered.square().cumsum(-1)
    total = energy[..., -1:] if most == scores.shape[-1] else scores.square().sum(-1, keepdim=True)
    limit = threshold * total
    within = energy <= limit if semantics == "released" else F.pad(energy[..., :-1], (1, 0)) < limit
    first = torch.arange(most, device=scores.device) == 0
    kept = torch.where(within | first, ordered, torch.inf)
    least = kept.amin(-1, keepdim=True)
    return least, _count(kept == least)


def _count(true: Tensor) -> Tensor:
    """How many of the last axis are true, (…, 1); in float32, for ONNX Runtime adds up integers many times slower."""
    return true.float().sum(-1, keepdim=True)
